-- warning: A prepared transaction lingers.
-- It holds its locks and what it might still see for as long as nobody ends it, through restarts too.
select format('prepared transaction %L', gid), format('has waited since %s (role %I)', date_trunc('second', prepared), owner),
       format('rollback prepared %L;  -- or commit prepared', gid)
  from pg_prepared_xacts
 where database = current_database()
   and prepared < clock_timestamp() - coalesce(($1::jsonb ->> 'old_transaction_seconds')::float8, 600) * interval '1 s';
