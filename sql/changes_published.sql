-- What does the publication $1 let of the table $2 (its oid) into the WAL's stream? The columns, and a condition on its rows ('': all). Of a
-- partitioned table that is not told of by its own name: of its partitions that are.
with recursive family (oid) as (
  select $2::bigint::oid
  union select i.inhrelid from family f join pg_catalog.pg_class c on c.oid = f.oid and c.relkind = 'p' join pg_catalog.pg_inherits i on i.inhparent = f.oid
), published as (  -- before Postgres 15 there are neither filters nor lists of columns
  select c.oid, nullif(to_jsonb(p) ->> 'rowfilter', '') as filter,
         case jsonb_typeof(to_jsonb(p) -> 'attnames') when 'array' then array(select jsonb_array_elements_text(to_jsonb(p) -> 'attnames')) end as columns
    from pg_catalog.pg_publication_tables p join pg_catalog.pg_namespace n on n.nspname = p.schemaname
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename join family f on f.oid = c.oid
   where p.pubname = $1
), told as (
  select * from published where oid = $2::bigint::oid or not exists (select from published where oid = $2::bigint::oid)
), missing as (
  select from family join pg_catalog.pg_class c using (oid) where c.relkind <> 'p' and c.oid not in (select oid from told)
)
select array(select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = $2::bigint::oid and a.attnum > 0 and not a.attisdropped
           and not exists (select from told where a.attname <> all (columns)) order by a.attnum),
       case when exists (select from told where oid = $2::bigint::oid) then coalesce((select filter from told), '')
            when not exists (select from told where filter is not null) and not exists (select from missing) or not exists (select from told) then ''
            else (select string_agg(concat('tableoid = ', oid, ' and (' || filter || ')'), ' or ' order by oid) from told) end;
