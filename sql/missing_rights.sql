-- What the current role still lacks before it can apply the migrations: the statement that gives it, one per row.
select format('grant create on database %I to %I;', current_database(), current_user)
where to_regnamespace('realtime') is null
  and not has_database_privilege(current_database(), 'create')
union all
select format('alter schema realtime owner to %I;', current_user)
from pg_catalog.pg_namespace
where nspname = 'realtime' and not pg_has_role(nspowner, 'usage')
union all
select format('alter table realtime.schema_version owner to %I;', current_user)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'realtime' and c.relname = 'schema_version' and not pg_has_role(c.relowner, 'usage');
