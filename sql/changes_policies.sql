-- What the policies of a table say about who may see a row, with all that they read: $1 its oid, $2 the roles of those who ask. As text in which only what is
-- in pg_catalog has no schema, by our search_path. Beside it, which relations and functions that depends on, and their digest; and which columns of the
-- table itself its own policies look at; whether the clock is looked at; and whether rows that are read may go along with a row of the table.
with recursive walk (classid, objid) as (
  select 'pg_catalog.pg_class'::regclass::oid, $1::bigint::oid
  union
  select n.classid, n.objid from walk w cross join lateral (
    select 'pg_catalog.pg_policy'::regclass::oid, p.oid
      from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
     where w.classid = 'pg_catalog.pg_class'::regclass and p.polrelid = w.objid and (c.relrowsecurity or c.oid = $1::bigint::oid) and p.polcmd in ('r', '*')
    union all
    select d.refclassid, d.refobjid from pg_catalog.pg_depend d
     where w.classid in ('pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_proc'::regclass) and d.classid = w.classid and d.objid = w.objid
       and d.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_type'::regclass)
  ) n (classid, objid)
), relation as (
  select c.oid, c.relname, c.relkind, ns.nspname from walk w join pg_catalog.pg_class c on c.oid = w.objid join pg_catalog.pg_namespace ns on ns.oid = c.relnamespace
   where w.classid = 'pg_catalog.pg_class'::regclass
), routine as (
  select f.*, ns.nspname from walk w join pg_catalog.pg_proc f on f.oid = w.objid join pg_catalog.pg_namespace ns on ns.oid = f.pronamespace
   where w.classid = 'pg_catalog.pg_proc'::regclass
), holders as materialized (  -- asked once: what is made of it here is what its digest says
  select realtime._holders(array(select r.oid from relation r), $2::text[]) as all
)
select jsonb_build_object(
  'policies', coalesce((
    select jsonb_agg(jsonb_build_object('table', jsonb_build_object('schema', r.nspname, 'name', r.relname), 'name', p.polname,
             'restrictive', not p.polpermissive,
             'appliesTo', array(select u.role from unnest($2::text[]) as u (role) where p.polroles = '{0}' or exists (
               select from unnest(p.polroles) as o (oid) where concat_ws(' ', u.role, o.oid) = any (holders.all))),
             'expressions', jsonb_path_query_array(jsonb_build_array(pg_catalog.pg_get_expr(p.polqual, p.polrelid, false)), '$[*] ? (@ != null)'))
             order by r.nspname, r.relname, p.polname)
      from holders cross join walk w join pg_catalog.pg_policy p on p.oid = w.objid join relation r on r.oid = p.polrelid
     where w.classid = 'pg_catalog.pg_policy'::regclass), '[]'),
  'root', (select jsonb_build_object('schema', r.nspname, 'name', r.relname) from relation r where r.oid = $1::bigint::oid),
  'tables', coalesce((
    select jsonb_agg(jsonb_build_object('schema', r.nspname, 'name', r.relname, 'kind', r.relkind,
             'columns', coalesce((
               select jsonb_agg(jsonb_build_object('name', a.attname, 'type', case when tn.nspname = 'pg_catalog' and t.typtype = 'b' then t.typname else '' end) order by a.attnum)
                 from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
                where a.attrelid = r.oid and r.oid = $1::bigint::oid and a.attnum > 0 and not a.attisdropped), '[]')))
      from relation r), '[]'),
  -- Without arguments, in SQL, as the caller and with the caller's settings; and of a type that makes nothing else of the result.
  'functions', coalesce((
    select jsonb_agg(jsonb_build_object('schema', f.nspname, 'name', f.proname, 'returns', pg_catalog.format_type(f.prorettype, null),
             'body', coalesce(pg_catalog.pg_get_function_sqlbody(f.oid), f.prosrc)))
      from routine f join pg_catalog.pg_language l on l.oid = f.prolang
     where l.lanname = 'sql' and f.prokind = 'f' and f.pronargs = 0 and not f.prosecdef and not f.proretset and f.proconfig is null
       and f.prorettype in ('pg_catalog.text'::regtype, 'pg_catalog.uuid'::regtype, 'pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype,
                            'pg_catalog.int2'::regtype, 'pg_catalog.int4'::regtype, 'pg_catalog.int8'::regtype)), '[]'),
  'called', coalesce((select jsonb_agg(jsonb_build_object('schema', f.nspname, 'name', f.proname)) from routine f), '[]'),
  'enums', coalesce((
    select jsonb_agg(jsonb_build_object('schema', ns.nspname, 'name', t.typname))
      from walk w join pg_catalog.pg_type t on t.oid = w.objid join pg_catalog.pg_namespace ns on ns.oid = t.typnamespace
     where w.classid = 'pg_catalog.pg_type'::regclass and t.typtype = 'e'), '[]')),
  array(select r.oid::bigint from relation r order by 1), array(select f.oid::bigint from routine f order by 1),
  concat_ws(' ', realtime._policies_digest(array(select r.oid from relation r), array(select f.oid from routine f)), md5((select holders.all::text from holders))),
  -- A whole row (varattno 0) is all of them, and no dependency is recorded of it.
  array(select a.attname::text from pg_catalog.pg_attribute a
         where a.attrelid = $1::bigint::oid and a.attnum > 0 and not a.attisdropped and exists (
           select from pg_catalog.pg_policy p
            where p.polrelid = a.attrelid and p.polcmd in ('r', '*') and (
              pg_catalog.strpos(p.polqual::text, ':varattno 0 ') > 0 or exists (
                select from pg_catalog.pg_depend d
                 where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
                   and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum)))
         order by a.attnum),
  exists (select from walk w join pg_catalog.pg_policy p on p.oid = w.objid
           where w.classid = 'pg_catalog.pg_policy'::regclass and realtime._unseen(pg_catalog.pg_get_expr(p.polqual, p.polrelid), false) = 'clock')
    or exists (select from routine f where realtime._unseen(coalesce(pg_catalog.pg_get_function_sqlbody(f.oid), f.prosrc), true) = 'clock'),
  -- What references the table goes with its rows, and what references that.
  array(with recursive gone as (
          select $1::bigint::oid as oid
          union
          select c.conrelid from gone join pg_catalog.pg_constraint c on c.contype = 'f' and c.confrelid = gone.oid and c.confdeltype in ('c', 'n', 'd')
        ) select gone.oid::bigint from gone where gone.oid <> $1::bigint::oid and gone.oid in (select r.oid from relation r)) <> '{}';
