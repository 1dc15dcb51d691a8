-- The number of the last call of sync(), if it may be waiting for the node $1.
select last_value from realtime._sync, realtime._nodes where id = $1 and is_called and last_value > synced;
