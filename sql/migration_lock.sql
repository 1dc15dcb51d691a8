-- Waits for whoever else is migrating this database, and keeps others waiting until the transaction ends.
select pg_advisory_xact_lock(hashtextextended('rowcast.migrations', 0));
