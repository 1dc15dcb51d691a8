-- Is there a schema named $1?
select exists (select from pg_namespace where nspname = $1);
