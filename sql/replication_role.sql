-- Who asks, and whether he may read the WAL.
select current_user, rolreplication or rolsuper from pg_roles where rolname = current_user;
