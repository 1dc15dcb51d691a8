-- Says $1 on the feed's channel. Whoever hears it has heard all that the returned snapshot sees.
select pg_notify('realtime', $1), pg_current_snapshot()::text;
