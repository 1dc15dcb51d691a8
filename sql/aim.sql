-- What package aim has to know to tell whom a change of a table concerns: the policies that decide with all that they read,
-- as text in which only what is in pg_catalog has no schema: that follows from our search_path.
with recursive walk (classid, objid) as (
  select 'pg_catalog.pg_class'::regclass::oid, 'realtime.messages'::regclass::oid
  union
  select n.classid, n.objid from walk w cross join lateral (
    select 'pg_catalog.pg_policy'::regclass::oid, p.oid
      from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
     where w.classid = 'pg_catalog.pg_class'::regclass and p.polrelid = w.objid and (c.relrowsecurity or c.oid = 'realtime.messages'::regclass)
       and (p.polcmd in ('r', '*') or p.polcmd = 'a' and c.oid = 'realtime.messages'::regclass)
    union all
    select d.refclassid, d.refobjid from pg_catalog.pg_depend d
     where w.classid in ('pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_proc'::regclass) and d.classid = w.classid and d.objid = w.objid
       and d.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_type'::regclass)
  ) n (classid, objid)
), relation as (
  select c.*, ns.nspname from walk w join pg_catalog.pg_class c on c.oid = w.objid join pg_catalog.pg_namespace ns on ns.oid = c.relnamespace
   where w.classid = 'pg_catalog.pg_class'::regclass
)
select jsonb_build_object(
  'policies', coalesce((
    select jsonb_agg(jsonb_build_object('table', jsonb_build_object('schema', r.nspname, 'name', r.relname), 'name', p.polname,
             'expressions', jsonb_path_query_array(jsonb_build_array(
               pg_catalog.pg_get_expr(p.polqual, p.polrelid, false),
               case when r.oid = 'realtime.messages'::regclass then pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid, false) end),
               '$[*] ? (@ != null)'))
             order by r.nspname, r.relname, p.polname)
      from walk w join pg_catalog.pg_policy p on p.oid = w.objid join relation r on r.oid = p.polrelid
     where w.classid = 'pg_catalog.pg_policy'::regclass), '[]'),
  'tables', (
    select jsonb_agg(jsonb_build_object('schema', r.nspname, 'name', r.relname, 'kind', r.relkind,
             'children', exists (select from pg_catalog.pg_inherits i where i.inhparent = r.oid),
             'ancestors', coalesce((
               with recursive up (oid) as (
                 select i.inhparent from pg_catalog.pg_inherits i where i.inhrelid = r.oid
                 union select i.inhparent from up join pg_catalog.pg_inherits i on i.inhrelid = up.oid)
               select jsonb_agg(jsonb_build_object('schema', an.nspname, 'name', a.relname))
                 from up join pg_catalog.pg_class a on a.oid = up.oid join pg_catalog.pg_namespace an on an.oid = a.relnamespace), '[]'),
             'columns', coalesce((
               select jsonb_agg(jsonb_build_object('name', a.attname,
                        'type', coalesce(
                          case when e.typtype = 'e' then 'enum' when e.typtype = 'b' and en.nspname = 'pg_catalog' then e.typname end
                            || case when e.oid <> t.oid then '[]' else '' end, ''),
                        'plain', a.attcollation in (0, 'pg_catalog."default"'::regcollation),
                        'virtual', a.attgenerated = 'v') order by a.attnum)
                 from pg_catalog.pg_attribute a
                 join pg_catalog.pg_type t on t.oid = a.atttypid
                 join pg_catalog.pg_type e on e.oid = case when t.typcategory = 'A' and t.typelem <> 0 and t.typtype = 'b' then t.typelem else t.oid end
                 join pg_catalog.pg_namespace en on en.oid = e.typnamespace
                where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped), '[]')))
      from relation r),
  -- Without arguments, in SQL, as the caller and with the caller's settings; and of a type that makes nothing else of the result.
  'functions', coalesce((
    select jsonb_agg(jsonb_build_object('schema', ns.nspname, 'name', f.proname,
             'body', coalesce(pg_catalog.pg_get_function_sqlbody(f.oid), f.prosrc)))
      from walk w join pg_catalog.pg_proc f on f.oid = w.objid
      join pg_catalog.pg_namespace ns on ns.oid = f.pronamespace join pg_catalog.pg_language l on l.oid = f.prolang
     where w.classid = 'pg_catalog.pg_proc'::regclass and l.lanname = 'sql' and f.prokind = 'f' and f.pronargs = 0
       and not f.prosecdef and not f.proretset and f.proconfig is null
       and f.prorettype in ('pg_catalog.text'::regtype, 'pg_catalog.uuid'::regtype, 'pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype)), '[]'),
  'enums', coalesce((
    select jsonb_agg(jsonb_build_object('schema', ns.nspname, 'name', t.typname))
      from walk w join pg_catalog.pg_type t on t.oid = w.objid join pg_catalog.pg_namespace ns on ns.oid = t.typnamespace
     where w.classid = 'pg_catalog.pg_type'::regclass and t.typtype = 'e'), '[]'),
  -- What else may have a say when a row is put into messages.
  'hooks', coalesce((
    select jsonb_agg(h.what) from (
      select 'a trigger of its own, ' || t.tgname
        from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
       where not t.tgisinternal and f.pronamespace <> 'realtime'::regnamespace
         and t.tgrelid in (select relid from pg_catalog.pg_partition_tree('realtime.messages'))
      union all
      select 'a rule, ' || rulename from pg_catalog.pg_rewrite where ev_class = 'realtime.messages'::regclass
      union all
      select 'a check of its own, ' || conname from pg_catalog.pg_constraint
       where contype = 'c' and conname not in ('messages_probe', 'messages_payload_exclusive')
         and conrelid in (select relid from pg_catalog.pg_partition_tree('realtime.messages'))
    ) as h (what)), '[]')
)
