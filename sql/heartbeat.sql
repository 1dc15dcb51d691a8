-- Says $1 to the servers. Whoever hears it has heard all that the returned snapshot sees. It need not reach a standby to be
-- heard, so that it does not wait for one that is away. Also its own transaction, which it would have had in any case.
select realtime._say($1, true), pg_current_snapshot()::text, set_config('synchronous_commit', 'local', true), pg_current_xact_id()::text;
