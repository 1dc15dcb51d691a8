-- By which way messages are said, whether the node $1 has a place among those that serve, and whether another that is alive hears
-- the WAL.
select last_value, exists (select from realtime._nodes where id = $1),
       exists (select from realtime._nodes where id <> $1 and hears_wal and expires_at > clock_timestamp()) from realtime._source;
