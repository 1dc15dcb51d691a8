-- Bounds for the transaction that follows: $1 statement_timeout, $2 lock_timeout (milliseconds). Nothing of ours is worth
-- waiting for a disk: what a decision or a notification leaves behind need not survive a crash.
select set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true), set_config('synchronous_commit', 'off', true);
