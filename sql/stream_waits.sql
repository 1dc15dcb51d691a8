-- The backends whose transactions the making of a replication slot waits for; 0 is a prepared transaction. Whose connection makes
-- it is the role's that is listened as.
select distinct unnest(pg_blocking_pids(pid))::text as blocking
  from pg_stat_activity where datname = current_database() and application_name like 'rowcast wal%'
 order by 1;
