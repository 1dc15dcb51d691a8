-- warning: The publication is missing with which messages could be heard by the WAL.
-- A stream of the WAL has to name a publication, and this one has no tables. Without it FEED_SOURCE=auto hears messages by NOTIFY, for
-- which transactions that send commit one after the other; FEED_SOURCE=wal is never ready. migrate makes it where it may.
select 'publication realtime_feed', 'does not exist', 'create publication realtime_feed;  -- as a role with CREATE on the database; or set FEED_SOURCE=notify'
 where not exists (select from pg_publication where pubname = 'realtime_feed')
   and to_regclass('realtime._source') is not null
   and current_setting('wal_level') = 'logical'
   and $1::jsonb ->> 'feed_source' in ('auto', 'wal')
   and exists (select from pg_roles where rolname = current_user and (rolreplication or rolsuper));
