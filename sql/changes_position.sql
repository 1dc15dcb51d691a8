-- How far the WAL has been written, in bytes: all that a snapshot sees was committed before the place that it is asked for after it.
-- And whether, as of this snapshot, the publication $1 tells of every new version of a row.
select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, coalesce((select pubinsert and pubupdate from pg_publication where pubname = $1), false);
