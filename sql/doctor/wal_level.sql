-- error: The WAL does not say what Postgres Changes needs.
-- Which rows changed is in the WAL only where wal_level is logical. Who asks for changes is told so; broadcasts and presence do
-- not need it.
select 'setting wal_level', format('is %s', current_setting('wal_level')), 'alter system set wal_level = logical;  -- as a superuser, and restart Postgres'
 where current_setting('wal_level') <> 'logical'
   and exists (select from pg_publication_tables where pubname = $1::jsonb ->> 'publication');
