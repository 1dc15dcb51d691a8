-- Gives out a transaction id: a snapshot taken after its COMMIT knows of all that were given out before.
select pg_current_xact_id()::text;
