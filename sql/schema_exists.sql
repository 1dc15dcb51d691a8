-- Is there a schema named $1?
select exists (select from pg_catalog.pg_namespace where nspname operator(pg_catalog.=) $1);
