-- warning: There may be fewer connections than the server wants.
-- It takes up to POOL_SIZE for queries and one for LISTEN. When others have the rest, decisions wait for one another, and
-- after a restart of Postgres some are not had again.
with wanted as (
  select ($1::jsonb ->> 'pool_size')::int + 1 as connections
), limits (object, most, mend) as (
  select 'Postgres', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                     - coalesce(current_setting('reserved_connections', true)::int, 0),
         'lower POOL_SIZE, or raise max_connections and restart Postgres'
  union all
  select format('database %I', datname), datconnlimit, format('alter database %I connection limit -1;', datname)
    from pg_database where datname = current_database() and datconnlimit >= 0
  union all
  select format('role %I', rolname), rolconnlimit, format('alter role %I connection limit -1;', rolname)
    from pg_roles where rolname = current_user and rolconnlimit >= 0
)
select object, format('allows %s connections, and the server wants up to %s', most, connections), mend
  from limits, wanted where most < connections;
