-- Who asks, whether he may read the WAL, and whether anybody wants to: for changes of tables of the publication $1, or for messages
-- where FEED_SOURCE is $2.
select current_user, rolreplication or rolsuper,
       current_setting('wal_level') = 'logical' and $2 <> 'notify' or exists (select from pg_publication_tables where pubname = $1)
  from pg_roles where rolname = current_user;
