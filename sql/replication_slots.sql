-- Logical slots: a connection for replication takes no parameters, so all are given. wal_status is 'lost' when Postgres has
-- taken back what the slot held.
select slot_name, plugin, database = current_database(), wal_status = 'lost', confirmed_flush_lsn from pg_replication_slots where slot_type = 'logical';
