-- Logical slots: a connection for replication takes no parameters, so all are given. wal_status is 'lost' when Postgres has
-- taken back what the slot held.
select slot_name, plugin, database operator(pg_catalog.=) pg_catalog.current_database(), wal_status operator(pg_catalog.=) 'lost', confirmed_flush_lsn
  from pg_catalog.pg_replication_slots where slot_type operator(pg_catalog.=) 'logical';
