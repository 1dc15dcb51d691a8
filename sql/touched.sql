-- The relations that this transaction has read, inside functions too, but for those of the system and our own.
select relid::bigint from pg_stat_xact_all_tables
 where coalesce(seq_scan, 0) + coalesce(idx_scan, 0) > 0 and relid >= 16384 and schemaname not in ('realtime', 'pg_toast');
