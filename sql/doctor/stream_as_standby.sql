-- warning: Postgres would take the server's stream of the WAL for a synchronous standby.
-- It tells standbys by the names of their connections alone. Commits would then wait for the server, and count as replicated when it
-- has read them. So the server does not read the WAL: messages are heard by NOTIFY, and nobody's subscription to changes begins.
select 'setting synchronous_standby_names', format('is %L, which the stream''s name, rowcast wal, matches', names),
       'alter system set synchronous_standby_names to the names of your standbys alone, without * and "rowcast wal";  -- as a superuser; then select pg_reload_conf();'
  from current_setting('synchronous_standby_names') as names
 where (names like '%*%' or lower(names) like '%rowcast wal%')
   and current_setting('wal_level') = 'logical'
   and ($1::jsonb ->> 'feed_source' in ('auto', 'wal') or exists (select from pg_publication_tables where pubname = $1::jsonb ->> 'publication'));
