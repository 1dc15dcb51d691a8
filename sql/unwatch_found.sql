-- Ends what was begun by watch_found.sql.
select realtime._unwatch_found($1);
