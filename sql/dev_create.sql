-- What a superuser does before `rowcast dev` can begin, one statement per row, in order: $1 names the database, $2 the role
-- of the server, $3 is its password (empty: none).
select statement from (
  select 1, pg_catalog.format('create role %I nologin%s', wanted.name, wanted.options)
    from (values ('anon', ''), ('authenticated', ''), ('service_role', ' bypassrls')) as wanted (name, options)
   where not exists (select from pg_catalog.pg_roles where rolname operator(pg_catalog.=) wanted.name)
  union all select 2, pg_catalog.format('create role %I login password %L replication', $2::pg_catalog.text, case when $3::pg_catalog.text operator(pg_catalog.<>) '' then $3::pg_catalog.text end)
  union all select 3, pg_catalog.format('grant anon, authenticated, service_role to %I', $2::pg_catalog.text)
  union all select 4, pg_catalog.format('create database %I template template0', $1::pg_catalog.text)
  union all select 5, pg_catalog.format('grant create on database %I to %I', $1::pg_catalog.text, $2::pg_catalog.text)
) as steps (place, statement) order by place;
