-- The backends whose transactions the making of a replication slot waits for; 0 is a prepared transaction.
select distinct unnest(pg_blocking_pids(pid))::text as blocking
  from pg_stat_activity where usename = current_user and application_name like 'rowcast wal%' and wait_event_type = 'Lock'
 order by 1;
