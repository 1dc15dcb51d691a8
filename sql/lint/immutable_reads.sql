-- error: A function that policies call is IMMUTABLE and reads what may change.
-- Postgres takes what an IMMUTABLE function says for good and keeps it in plans: a claim that it read is then the one of whoever
-- the plan was made for, and a table's row the one of that time. The server plans its questions anew and is not misled. All others
-- whom these policies bind are: realtime.send() on a connection that serves many users lets one send by another's right. An index
-- or a constraint that is made with such a function stays wrong. Bodies are searched, and those of the functions that they call,
-- but nothing that is put together with EXECUTE.
with recursive functions as (
  select p.oid, p.provolatile, l.lanname, p.prosqlbody is null as unparsed,
         regexp_replace(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), '''([^'']|'''')*''|--[^\n]*|/\*([^*]|\*+[^*/])*\*+/', ' ', 'g') as body
    from realtime._walk() w
    join pg_proc p on w.classid = 'pg_proc'::regclass and p.oid = w.objid
    join pg_language l on l.oid = p.prolang
   where l.lanname not in ('c', 'internal')
), readers as (
  select oid, 'settings' as source from functions where body ~* '\mcurrent_setting\s*\('
  union
  select oid, 'who asks' from functions where body ~* '\m(current_user|session_user|current_role)\M'
  union
  select oid, 'the ' || seen from functions cross join realtime._unseen(body, false) as seen where seen in ('clock', 'catalog')
  union
  select f.oid, c.oid::regclass::text
    from functions f
   cross join regexp_matches(f.body, '\m(?:from|join)\M[[:space:](]*(?:\monly\s+)?(?:(?:[[:alpha:]_][[:alnum:]_$]*|"[^"]+")\s*\.\s*)?(?:([[:alpha:]_][[:alnum:]_$]*)|"([^"]+)")', 'gi') as word
    join pg_class c on c.relname in (lower(word[1]), word[2]) and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid >= 16384
), reached (oid, at) as (
  select oid, oid from functions where provolatile = 'i'
  union
  select r.oid, next.oid
    from reached r
    join functions f on f.oid = r.at
    join functions next on case when f.unparsed then exists (select from realtime._names(f.body, true) as name join pg_proc p on p.proname = name where p.oid = next.oid)
                                else exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = f.oid and d.refclassid = 'pg_proc'::regclass and d.refobjid = next.oid) end
)
select format('function %s', r.oid::regprocedure),
       format('is IMMUTABLE and reads %s: plans keep what it said for somebody else, or some time ago',
              string_agg(distinct source || case when r.at = r.oid then '' else format(' (in %s)', r.at::regprocedure) end, ', ')),
       format('alter function %s stable;', r.oid::regprocedure)
  from reached r join readers on readers.oid = r.at
 group by r.oid;
