-- warning: The queue of notifications fills up.
-- It is one for the whole of Postgres. When it is full, every transaction that notifies fails at COMMIT: all that send from SQL,
-- and all that change a watched table. A session that listens and stays in a transaction keeps it from being emptied.
select 'the queue of notifications', format('is %s %% full', round((used * 100)::numeric, 1)),
       'end the session that listens and is in a transaction: select pid, usename, datname, xact_start from pg_stat_activity order by xact_start;'
  from pg_notification_queue_usage() as queue (used)
 where used > coalesce(($1::jsonb ->> 'notify_queue_share')::float8, 0.1);
