-- What the current role still lacks before it can apply the migrations: the statement that gives it, one per row.
select pg_catalog.format('grant create on database %I to %I;', pg_catalog.current_database(), current_user)
where pg_catalog.to_regnamespace('realtime') is null
  and not pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create')
union all
select pg_catalog.format('alter schema realtime owner to %I;', current_user)
from pg_catalog.pg_namespace
where nspname operator(pg_catalog.=) 'realtime' and not pg_catalog.pg_has_role(nspowner, 'usage')
union all
select pg_catalog.format('alter table realtime.schema_version owner to %I;', current_user)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
where n.nspname operator(pg_catalog.=) 'realtime' and c.relname operator(pg_catalog.=) 'schema_version' and not pg_catalog.pg_has_role(c.relowner, 'usage');
