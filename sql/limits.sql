-- Bounds for the transaction that follows: $1 statement_timeout, $2 lock_timeout (milliseconds). Nothing of ours is worth
-- waiting for a disk: what a decision or a notification leaves behind need not survive a crash. And names of ours mean what
-- they say: those without a schema are Postgres' own, whoever may make others in the role's search_path or in its temporary schema.
select pg_catalog.set_config('statement_timeout', $1, true), pg_catalog.set_config('lock_timeout', $2, true),
       pg_catalog.set_config('synchronous_commit', 'off', true), pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
