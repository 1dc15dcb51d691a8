-- A listener is idle by nature: where the role has a timeout for that, the connection would be lost again and again.
select pg_catalog.set_config('idle_session_timeout', '0', false);
