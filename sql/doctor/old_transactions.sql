-- warning: A transaction has been open for long.
-- What it has locked, others wait for; what it might still see is not cleaned up, so that the tables of probes and of the journal
-- grow; what was notified since stays in the queue of notifications. Of sessions of other roles only their age is seen, unless
-- the server's role may read statistics.
with asked as (
  select coalesce(($1::jsonb ->> 'old_transaction_seconds')::float8, 600) as seconds
)
select format('process %s', a.pid),
       case when a.xact_start is not null then format('%s in a transaction since %s (role %I)', a.state, date_trunc('second', a.xact_start), a.usename)
            else format('is in a transaction that is %s transactions old (role %I)', age(a.backend_xmin), a.usename) end,
       format('select pg_terminate_backend(%s);  -- as role %I or a superuser', a.pid, a.usename)
       || case when a.xact_start is null then format('  see more: grant pg_read_all_stats to %I;', current_user) else '' end
  from pg_stat_activity a, asked
 where a.datname = current_database() and a.pid <> pg_backend_pid()
   and coalesce(a.backend_type, 'client backend') = 'client backend'  -- of others, that is not told
   and (a.xact_start < clock_timestamp() - seconds * interval '1 s' or a.xact_start is null and age(a.backend_xmin) > 100000);
