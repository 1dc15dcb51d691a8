-- The node $1 has applied all that was committed before the call of sync() with the number $2.
update realtime._nodes set synced = greatest(synced, $2) where id = $1;
