-- Bounds the wait for the lock ($1 with its unit, as in '1000ms'), and lets the transaction idle while the migrations run elsewhere.
select pg_catalog.set_config('lock_timeout', $1, true), pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true);
