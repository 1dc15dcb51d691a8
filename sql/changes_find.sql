-- Which tables does an entry mean? $1 the publication, $2 a schema and $3 a table, '' for every one.
--
-- Of a table by name, one of its partitions may be what is published. Where a table that it is a partition of is told of by its own
-- name, nothing is told by the partition's.
with recursive family (oid) as (
  select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = $2 and c.relname = $3 and c.relkind not in ('i', 'I', 't', 'c')
), up (oid) as (
  select f.oid from family f union select i.inhparent from up join pg_catalog.pg_inherits i on i.inhrelid = up.oid join pg_catalog.pg_class c on c.oid = i.inhparent and c.relkind = 'p'
), down (oid) as (
  select f.oid from family f union select i.inhrelid from down join pg_catalog.pg_inherits i on i.inhparent = down.oid join pg_catalog.pg_class c on c.oid = i.inhparent and c.relkind = 'p'
), told (oid, name) as (
  select c.oid, format('%I.%I', p.schemaname, p.tablename)
    from pg_catalog.pg_publication_tables p join pg_catalog.pg_namespace n on n.nspname = p.schemaname join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
   where p.pubname = $1
), above (name) as (
  select told.name from told join up using (oid) where told.oid not in (select f.oid from family f)
), published (oid) as (
  select c.oid from pg_catalog.pg_publication_tables p join pg_catalog.pg_namespace n on n.nspname = p.schemaname join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
   where p.pubname = $1 and $2 in ('', p.schemaname) and $3 = ''
  union
  select f.oid from family f where exists (select from told join down using (oid)) and not exists (select from above)
)
select array(select oid::bigint from published order by oid),
  case
    when $3 = '' or exists (select from published) then ''
    when not exists (select from family) then format('There is no table %I.%I.', $2, $3)
    when (select relkind from pg_catalog.pg_class join family using (oid)) not in ('r', 'p') then format('%I.%I is not a table, so it has no changes of its own.', $2, $3)
    when exists (select from above) then format('Its changes are told by the name of %s: ask for that, or alter publication %I set (publish_via_partition_root = false);', (select min(name) from above), $1)
    else format('alter publication %I add table %I.%I;', $1, $2, $3)
  end;
