-- How far the WAL has been written, in bytes: all that a snapshot sees was committed before the place that it is asked for after it.
select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint;
