-- warning: A transaction keeps replication slots from being made.
-- A slot begins when every transaction has ended that had written something by then, in any database of this Postgres. Until then
-- nobody's subscription to changes begins. Of sessions of other roles only their age is seen, unless the server's role may
-- read statistics.
with asked as (
  select coalesce(($1::jsonb ->> 'old_transaction_seconds')::float8, 60) as seconds
)
select format('process %s', a.pid),
       case when a.xact_start is not null then format('has written since %s in database %I (role %I)', date_trunc('second', a.xact_start), a.datname, a.usename)
            else format('has written in a transaction that is %s transactions old, in database %I (role %I)', age(a.backend_xid), a.datname, a.usename) end,
       format('select pg_terminate_backend(%s);  -- as role %I or a superuser', a.pid, a.usename)
  from pg_stat_activity a, asked
 where a.backend_xid is not null and a.pid <> pg_backend_pid()
   and (a.xact_start < clock_timestamp() - seconds * interval '1 s' or a.xact_start is null and age(a.backend_xid) > 10000)
   and exists (select from pg_publication_tables where pubname = $1::jsonb ->> 'publication')
union all
select format('prepared transaction %L', gid), format('has waited since %s in database %I (role %I)', date_trunc('second', prepared), database, owner),
       format('rollback prepared %L;  -- or commit prepared, in database %I', gid, database)
  from pg_prepared_xacts, asked
 where prepared < clock_timestamp() - seconds * interval '1 s'
   and exists (select from pg_publication_tables where pubname = $1::jsonb ->> 'publication');
