-- For what follows in the transaction: users' code, such as triggers of theirs on realtime.messages, finds names as it does elsewhere.
select pg_catalog.set_config('search_path', null, true);
