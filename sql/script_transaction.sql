-- Names the transaction, to find out later whether it is still the same.
select pg_current_xact_id()::text;
