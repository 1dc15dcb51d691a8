-- error: FORCE ROW LEVEL SECURITY is set on realtime.messages.
-- The server finds out who may receive by putting a row there as the table's owner. With FORCE the owner is bound by the
-- policies too, so it is blind, and refuses every private channel.
select 'table realtime.messages', 'FORCE ROW LEVEL SECURITY binds the owner, whom the server needs to be free; every private join is refused',
       'alter table realtime.messages no force row level security;'
  from pg_class where oid = to_regclass('realtime.messages') and relforcerowsecurity;
