-- What the catalogs say of tables: $1 their oids, $2 the publication. One JSON object each.
with recursive column_of as (
  select a.*, t.typtype from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid where a.attrelid = any ($1::bigint[]::oid[]) and a.attnum > 0 and not a.attisdropped
), reach (oid) as (  -- types, what is beneath a domain, and elements of arrays
  select atttypid from column_of
  union
  select case when t.typtype = 'd' then t.typbasetype else t.typelem end
    from reach join pg_catalog.pg_type t on t.oid = reach.oid
   where t.typtype = 'd' or t.typelem <> 0 and t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
), type as (
  select t.oid, t.typname, t.typdelim, t.typtype, realtime._base_type(t.oid) as base from reach join pg_catalog.pg_type t on t.oid = reach.oid
), kin (oid, other, up, depth) as (  -- of each table: itself, what it is a partition of, and its partitions
  select r, r, null::boolean, 0 from unnest($1::bigint[]::oid[]) as r
  union
  select k.oid, n.other, n.up, k.depth + 1 from kin k cross join lateral (
    select i.inhparent, true from pg_catalog.pg_inherits i join pg_catalog.pg_class p on p.oid = i.inhparent and p.relkind = 'p' where i.inhrelid = k.other and k.up is not false
    union all
    select i.inhrelid, false from pg_catalog.pg_inherits i join pg_catalog.pg_class p on p.oid = i.inhparent and p.relkind = 'p' where i.inhparent = k.other and k.up is not true
  ) as n (other, up)
)
select jsonb_build_object(
  'OID', c.oid::bigint, 'Schema', n.nspname, 'Name', c.relname, 'RowSecurity', c.relrowsecurity, 'Partitioned', c.relkind = 'p',
  'Published', exists (
    select from kin k join pg_catalog.pg_class kc on kc.oid = k.other join pg_catalog.pg_namespace kn on kn.oid = kc.relnamespace
      join pg_catalog.pg_publication_tables p on p.schemaname = kn.nspname and p.tablename = kc.relname where k.oid = c.oid and p.pubname = $2),
  'Parents', (
    select jsonb_agg(jsonb_build_object('Schema', pn.nspname, 'Name', pc.relname) order by k.depth)
      from kin k join pg_catalog.pg_class pc on pc.oid = k.other join pg_catalog.pg_namespace pn on pn.oid = pc.relnamespace where k.oid = c.oid and k.up),
  'Key', (
    select jsonb_agg(a.attname order by k.place)
      from pg_catalog.pg_index i cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
     where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts),
  'Columns', (
    select jsonb_agg(jsonb_build_object(
             'Name', a.attname, 'Type', a.atttypid::bigint, 'Generated', a.attgenerated <> '',
             'Exact', a.attcollation = 0 or (select coll.collisdeterministic from pg_catalog.pg_collation coll where coll.oid = a.attcollation)) order by a.attnum)
      from column_of a where a.attrelid = c.oid),
  'Types', (
    select jsonb_agg(jsonb_build_object(
             'OID', t.oid::bigint, 'Name', t.typname, 'Base', t.base::bigint, 'Delimiter', ascii(t.typdelim::text),
             'Elem', (select bt.typelem::bigint from pg_catalog.pg_type bt where bt.oid = t.base and bt.typelem <> 0 and bt.typsubscript = 'pg_catalog.array_subscript_handler'::regproc),
             -- As to_jsonb() does: casts to json count for types that are not built in. int2vector is an array there and not in text.
             'Exotic', (select bt.typtype = 'c' or t.base in ('pg_catalog.record'::regtype, 'pg_catalog.int2vector'::regtype, 'pg_catalog.oidvector'::regtype)
                               or t.base >= 16384 and exists (select from pg_catalog.pg_cast f where f.castsource = t.base and f.casttarget = 'pg_catalog.json'::regtype and f.castmethod = 'f')
                          from pg_catalog.pg_type bt where bt.oid = t.base),
             'Exact', t.base in ('pg_catalog.text'::regtype, 'pg_catalog.varchar'::regtype, 'pg_catalog.uuid'::regtype, 'pg_catalog.bool'::regtype, 'pg_catalog.int2'::regtype, 'pg_catalog.int4'::regtype, 'pg_catalog.int8'::regtype)
                      or exists (select from pg_catalog.pg_type bt where bt.oid = t.base and bt.typtype = 'e')))
      from type t))
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = any ($1::bigint[]::oid[]);
