-- What undoes dev_create.sql, one statement per row, in order: $1 names the database, $2 the role of the server. The token
-- roles stay: nobody knows who else uses them by now.
select statement from (
  select 1, pg_catalog.format('drop database if exists %I with (force)', $1::pg_catalog.text)
  union all select 2, pg_catalog.format('drop role if exists %I', $2::pg_catalog.text)
) as steps (place, statement) order by place;
