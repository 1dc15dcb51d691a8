-- warning: There is no replication slot, or no WAL sender, left for the server.
-- It takes one of each while somebody follows changes of tables. Without them they wait, and are told why.
with wanted as (
  select 1 as n
), used (object, most, taken) as (
  select 'max_replication_slots', current_setting('max_replication_slots')::int,
         (select count(*) from pg_replication_slots where slot_name not like 'rowcast\_%' and slot_name <> $1::jsonb ->> 'changes_slot')
  union all
  select 'max_wal_senders', current_setting('max_wal_senders')::int,
         (select count(*) from pg_stat_get_wal_senders() as w where w.pid not in (
           select active_pid from pg_replication_slots
            where active_pid is not null and (slot_name like 'rowcast\_%' or slot_name = $1::jsonb ->> 'changes_slot')))
)
select format('setting %s', object), format('allows %s, and others have %s', most, taken),
       format('alter system set %s = %s;  -- as a superuser, and restart Postgres; or drop slots that nobody reads', object, most + 10)
  from used, wanted
 where taken + n > most and current_setting('wal_level') = 'logical'
   and exists (select from pg_publication_tables where pubname = $1::jsonb ->> 'publication');
