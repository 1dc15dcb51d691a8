-- warning: A policy reads a table of which no change is noticed at once.
-- A right that is taken away there stays with the sessions that are open until they are decided again for another reason.
-- realtime.watch() marks a table as one that rights depend on. Tables are followed through views, the policies of tables, and
-- the bodies of functions, but not by names in bodies that are text.
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
    ) as next (classid, objid)
   where r.depth < 12
)
select distinct format('table %s', c.oid::regclass), 'is read by policies on realtime.messages, and has no trigger that tells of its changes',
       format('select realtime.watch(%L);  -- as its owner; subject => names the column with the user id', c.oid::regclass)
  from reached r
  join pg_class c on r.classid = 'pg_class'::regclass and c.oid = r.objid
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'realtime')
   and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'zz_realtime_rights' and t.tgenabled <> 'D');
