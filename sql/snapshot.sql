-- What is committed by now.
select pg_current_snapshot()::text;
