-- Which tables does an entry mean? $1 the publication, $2 a schema and $3 a table, '' for every one.
--
-- Of a table by name, one of its partitions may be what is published, or what it is a partition of.
with recursive family (oid) as (
  select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = $2 and c.relname = $3 and c.relkind not in ('i', 'I', 't', 'c')
), up (oid) as (
  select f.oid from family f union select i.inhparent from up join pg_catalog.pg_inherits i on i.inhrelid = up.oid join pg_catalog.pg_class c on c.oid = i.inhparent and c.relkind = 'p'
), down (oid) as (
  select f.oid from family f union select i.inhrelid from down join pg_catalog.pg_inherits i on i.inhparent = down.oid join pg_catalog.pg_class c on c.oid = i.inhparent and c.relkind = 'p'
), published (oid) as (
  select c.oid from pg_catalog.pg_publication_tables p join pg_catalog.pg_namespace n on n.nspname = p.schemaname join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
   where p.pubname = $1 and $2 in ('', p.schemaname) and $3 = ''
  union
  select f.oid from family f
   where exists (
     select from (select oid from up union select oid from down) as kin
       join pg_catalog.pg_class c on c.oid = kin.oid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       join pg_catalog.pg_publication_tables p on p.schemaname = n.nspname and p.tablename = c.relname where p.pubname = $1)
)
select array(select oid::bigint from published order by oid),
  case
    when $3 = '' or exists (select from published) then ''
    when not exists (select from family) then format('There is no table %I.%I.', $2, $3)
    when (select relkind from pg_catalog.pg_class join family using (oid)) not in ('r', 'p') then format('%I.%I is not a table, so it has no changes of its own.', $2, $3)
    else format('alter publication %I add table %I.%I;', $1, $2, $3)
  end;
