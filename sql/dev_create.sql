-- What a superuser does before `rowcast dev` can begin, one statement per row, in order: $1 names the database, $2 the role
-- of the server, $3 is its password (empty: none).
select statement from (
  select 1, format('create role %I nologin%s', wanted.name, wanted.options)
    from (values ('anon', ''), ('authenticated', ''), ('service_role', ' bypassrls')) as wanted (name, options)
   where not exists (select from pg_roles where rolname = wanted.name)
  union all select 2, format('create role %I login password %L replication', $2::text, nullif($3::text, ''))
  union all select 3, format('grant anon, authenticated, service_role to %I', $2::text)
  union all select 4, format('create database %I template template0', $1::text)
  union all select 5, format('grant create on database %I to %I', $1::text, $2::text)
) as steps (place, statement) order by place;
