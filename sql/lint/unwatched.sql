-- warning: A policy depends on something of which no change is noticed at once.
-- A right that is taken away there stays with the sessions that are open until they are decided again for another reason: by the
-- timer (RECHECK_INTERVAL), or not at all. realtime.watched shows all that policies depend on, and how each change is noticed.
select format('%s %s', kind, object),
       concat(format('is what policies on realtime.messages depend on (%s), and a change of it is noticed by %s', array_to_string(policies, ', '), noticed_by),
              case when opaque is not null then format(': what it reads cannot be seen (%s)', opaque) end),
       coalesce(mend, case when opaque = 'clock' then 'compare with realtime.valid_until(…)'
                           when kind in ('function', 'policy') then 'write functions with BEGIN ATOMIC … END, so that Postgres records what they read; or call realtime.invalidate() after such a change'
                           else 'call realtime.invalidate() after such a change' end)
  from realtime.watched
 where not noticed;
