-- warning: The server's sessions begin with a setting that will be in the way.
-- Settings of a role, a database or the whole server hold for its connections too. The server sets limits for each of its own
-- transactions; migrations and the hourly maintenance take longer than others like to allow.
with wrong (name, least, finding, mend) as (
  values ('statement_timeout', 60000, 'rowcast migrate runs under it, and may be cut short', '0'),
         ('idle_in_transaction_session_timeout', 600000, 'rowcast migrate holds its lock in a transaction that is idle while it works', '0'),
         ('transaction_timeout', 1000000, 'the maintenance of partitions may take 15 minutes, and is ended before', '0'),
         ('track_counts', null, 'what policies look at cannot be observed, so tables behind functions stay unknown', 'on')
)
select format('setting %s', s.name), format('is %s%s: %s', s.reset_val, s.unit, wrong.finding),
       case s.context when 'user' then format('alter role %I in database %I set %s = %s;', current_user, current_database(), s.name, wrong.mend)
                      else format('alter database %I set %s = %s;  -- as a superuser', current_database(), s.name, wrong.mend) end
  from wrong join pg_settings s using (name)
 where case s.vartype when 'integer' then s.reset_val::bigint between 1 and wrong.least - 1 else s.reset_val = 'off' end;
