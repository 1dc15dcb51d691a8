-- error: The server's sessions begin with a setting under which nothing works.
-- Settings of a role, a database or the whole server hold for its connections too.
with wrong (name, bad, finding, mend) as (
  values ('row_security', array['off'], 'every query that a policy binds is an error, so every decision fails', 'on'),
         ('default_transaction_read_only', array['on'], 'every decision begins with a write, so every decision fails', 'off'),
         ('session_replication_role', array['replica', 'local'], 'triggers do not fire: what is sent from SQL is not delivered', 'origin')
)
select format('setting %s', s.name), format('is %s: %s', s.reset_val, wrong.finding),
       format('alter role %I in database %I set %s = %s;', current_user, current_database(), s.name, wrong.mend)
  from wrong join pg_settings s on s.name = wrong.name and s.reset_val = any (wrong.bad);
