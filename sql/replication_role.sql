-- Who asks, whether he may read the WAL, whether anybody wants to (for changes of tables of the publication $1, or for messages where
-- FEED_SOURCE is $2), and what lets him.
select format('role %I', rolname), rolreplication or rolsuper,
       current_setting('wal_level') = 'logical' and $2 <> 'notify' or exists (select from pg_publication_tables where pubname = $1),
       format('alter role %I replication;  -- as a superuser', rolname)
  from pg_roles where rolname = current_user;
