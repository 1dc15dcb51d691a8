-- error: The server's role may not read the WAL.
-- Postgres Changes needs the attribute REPLICATION, which a superuser gives. Who asks for changes is told so; broadcasts and
-- presence do not need it.
select format('role %I', rolname), 'has not the attribute REPLICATION', format('alter role %I replication;  -- as a superuser', rolname)
  from pg_roles
 where rolname = current_user and not rolreplication and not rolsuper
   and exists (select from pg_publication_tables where pubname = $1::jsonb ->> 'publication');
