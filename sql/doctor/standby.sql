-- error: The address leads to a standby.
-- A standby takes no LISTEN and no write, and every decision begins with a write. Private joins wait, and are refused.
select format('database %I', current_database()), 'is a standby, where nothing can be written or listened to',
       'set DATABASE_URL to the primary; of several hosts, target_session_attrs=read-write chooses it'
 where pg_is_in_recovery();
