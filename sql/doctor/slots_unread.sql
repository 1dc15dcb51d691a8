-- warning: A replication slot that nobody reads holds back WAL.
-- Postgres keeps the WAL for it until the disk is full, and then stops. A slot of CHANGES_SLOT is dropped at MAX_SLOT_WAL_BYTES by
-- the server, but only while one runs.
select format('replication slot %I', slot_name),
       case when wal_status = 'lost' then 'has lost what it was to hold'
            else format('holds back %s of WAL, and nobody reads it', pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))) end,
       format('select pg_drop_replication_slot(%L);', slot_name)
       || case when slot_name = $1::jsonb ->> 'changes_slot' then '  -- or start the server' else '  -- unless its reader comes back' end
       || case when current_setting('max_slot_wal_keep_size') = '-1' then '  bound them all: alter system set max_slot_wal_keep_size = ''10GB'';' else '' end
  from pg_replication_slots
 where not active and not temporary and not pg_is_in_recovery()
   and (wal_status = 'lost' or pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > coalesce(($1::jsonb ->> 'slot_wal_bytes')::float8, 256 * 1024 * 1024));
