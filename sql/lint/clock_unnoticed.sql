-- warning: A policy asks what time it is without realtime.valid_until().
-- Nothing in the database changes when time passes, so no session is decided anew at that moment, only when it is for another
-- reason or by the timer. realtime.valid_until(at) is true while at is in the future, and has the session decided again then.
-- Policies are searched, and the functions that they call.
with said as (
  select p.polname, regexp_replace(concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
                                             string_agg(f.prosrc, ' ') filter (where n.nspname not in ('pg_catalog', 'realtime'))),
                                   '''([^'']|'''')*''', '''''', 'g') as expression
    from pg_policy p
    left join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
    left join pg_proc f on f.oid = d.refobjid
    left join pg_namespace n on n.oid = f.pronamespace
   where p.polrelid = to_regclass('realtime.messages')
   group by p.oid, p.polname, p.polqual, p.polrelid, p.polwithcheck
)
select format('policy %I', polname), 'asks what time it is: when the time comes, nobody is told', 'write realtime.valid_until(m.expires_at) instead of m.expires_at > now()'
  from said
 where expression ~* '\m(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\s*\(|\m(current_date|current_time|current_timestamp|localtime|localtimestamp)\M'
   and expression !~* '\mvalid_until\s*\(';
