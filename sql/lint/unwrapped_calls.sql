-- hint: A policy calls auth.uid() and the like outside a subquery of their own.
-- Postgres evaluates such a call for every row that it looks at, of the tables that the policy reads as well; auth.uid() reads
-- the claims' JSON each time. In a subquery, (select auth.uid()), it is evaluated once. realtime.topic() is only a setting,
-- and costs next to nothing.
with recursive said as (
  select oid, polname, regexp_replace(concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), '''([^'']|'''')*''', '''''', 'g') as expression
    from pg_policy where polrelid = to_regclass('realtime.messages')
), peeled (oid, polname, expression, step) as (
  select oid, polname, expression, 0 from said
  union all
  -- From inside out, parentheses become brackets, and subqueries that read no table go, with all that is in them.
  select oid, polname,
         case when expression ~ '\( SELECT ((?! FROM )[^()])*\)' then regexp_replace(expression, '\( SELECT ((?! FROM )[^()])*\)', 'null', 'g')
              else regexp_replace(expression, '\(([^()]*)\)', '[\1]', 'g') end,
         step + 1
    from peeled where expression ~ '\(' and step < 100
), bare as (
  select distinct p.oid, p.polname, call[1] as name
    from peeled p, regexp_matches(p.expression, '(?<!(FROM|JOIN|LATERAL) |[[:alnum:]_.])([[:alnum:]_.]+)\[([^][]*)\]', 'g') as call  -- in FROM, it is called for no row
   where p.expression !~ '\('
     and regexp_replace(call[2], '::[a-z ]+|\m(true|false|null)\M', '', 'g') !~ '[a-z]'  -- no columns
), known as (
  select 'current_setting' as name, null::oid as policy
  union all
  select format('%I.%I', n.nspname, f.proname), d.objid
    from pg_depend d
    join pg_proc f on f.oid = d.refobjid
    join pg_namespace n on n.oid = f.pronamespace
   where d.classid = 'pg_policy'::regclass and d.refclassid = 'pg_proc'::regclass
     and f.provolatile <> 'i' and n.nspname <> 'realtime'
)
select format('policy %I', bare.polname), format('calls %s() once for every row', bare.name),
       format('write (select %s(…)) instead', bare.name)
  from bare join known on known.name = bare.name and coalesce(known.policy, bare.oid) = bare.oid;
