-- Waits for whoever else is migrating this database, and keeps others waiting until the transaction ends.
select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('rowcast.migrations', 0));
