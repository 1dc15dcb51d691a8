-- What the replication slot $1 of this database holds back of the WAL, in bytes, and whether Postgres has taken that from it. No
-- row: there is no such slot.
select coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, wal_status = 'lost'
  from pg_replication_slots where slot_name = $1 and slot_type = 'logical' and database = current_database();
