-- error: Row level security is switched off on realtime.messages.
-- Policies are then not applied. The server refuses every private channel rather than open them all.
select 'table realtime.messages', 'row level security is switched off: no policy is applied, and every private join is refused',
       'alter table realtime.messages enable row level security;'
  from pg_class where oid = to_regclass('realtime.messages') and not relrowsecurity;
