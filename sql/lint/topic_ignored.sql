-- hint: A permissive policy never asks which topic it is about.
-- It gives its right on every topic that there is and will be, whatever other policies say: extension = 'broadcast' does, and so does
-- auth.uid() is not null. For an administrator that may be as it is meant. Functions that policies call are searched too, one deep.
with said as (
  select p.polname, p.polcmd, action, expression, concat_ws(' ', expression, string_agg(f.prosrc || coalesce(pg_get_function_sqlbody(f.oid), ''), ' ')) as whole
    from pg_policy p
   cross join lateral (values
     ('receive', case when p.polcmd in ('r', '*') then pg_get_expr(p.polqual, p.polrelid) end),
     ('send', case when p.polcmd in ('a', '*') then coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid)) end)) as e (action, expression)
    left join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
    left join pg_proc f on f.oid = d.refobjid and f.pronamespace <> 'pg_catalog'::regnamespace
   where p.polrelid = to_regclass('realtime.messages') and p.polpermissive
   group by p.oid, p.polname, p.polcmd, action, expression
)
select format('policy %I', polname), format('lets whom it is for %s on every topic: it never looks at topic or realtime.topic()', string_agg(action, ' and ' order by action)),
       'add topic = realtime.topic(), and say of which topics this is true'
  from said
 where expression is not null and expression not in ('true', 'false')  -- anybody_receives and anybody_sends tell of true
   and regexp_replace(whole, '''([^'']|'''')*''', '''''', 'g') !~ '\mtopic\M|\mmessages\.\*'
 group by polname;
