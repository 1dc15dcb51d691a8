-- warning: A SECURITY DEFINER function that policies reach has no search_path of its own.
-- It runs with its owner's rights, and finds what it names where the caller's search_path leads: who may create a table or an
-- operator in a schema of that path, be it a temporary one, decides what it returns. Functions are followed through views, the
-- policies of tables, bodies, and names in bodies that are text.
with recursive reached (classid, objid, depth) as (
  select 'pg_policy'::regclass::oid, oid, 0 from pg_policy where polrelid = to_regclass('realtime.messages')
  union
  select next.classid, next.objid, r.depth + 1
    from reached r cross join lateral (
      select d.refclassid, d.refobjid from pg_depend d
       where d.classid = r.classid and d.objid = r.objid and r.classid <> 'pg_class'::regclass
         and d.refclassid in ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass) and d.refobjid <> to_regclass('realtime.messages')
      union all
      select 'pg_rewrite'::regclass, w.oid from pg_rewrite w where r.classid = 'pg_class'::regclass and w.ev_class = r.objid
      union all
      select 'pg_policy'::regclass, p.oid from pg_policy p join pg_class c on c.oid = p.polrelid
       where r.classid = 'pg_class'::regclass and p.polrelid = r.objid and c.relrowsecurity
      union all
      select 'pg_proc'::regclass, called.oid
        from pg_proc f
        join pg_language l on l.oid = f.prolang
        join pg_proc called on f.prosrc ~* ('\m' || regexp_replace(called.proname, '([.*+?^${}()|\[\]\\])', '\\\1', 'g') || '\s*\(')
        join pg_namespace n on n.oid = called.pronamespace
       where r.classid = 'pg_proc'::regclass and f.oid = r.objid and f.prosqlbody is null and l.lanname in ('sql', 'plpgsql')
         and called.prosecdef and n.nspname not in ('pg_catalog', 'information_schema')
    ) as next (classid, objid)
   where r.depth < 12
)
select distinct format('function %s', f.oid::regprocedure), 'is SECURITY DEFINER without a search_path of its own, and policies on realtime.messages reach it',
       format('alter function %s set search_path = '''';  -- and write out the schemas in its body', f.oid::regprocedure)
  from reached r
  join pg_proc f on r.classid = 'pg_proc'::regclass and f.oid = r.objid
 where f.prosecdef and not exists (select from unnest(f.proconfig) as setting where setting like 'search\_path=%');
