-- A read-only channel, topic announcements: everybody receives, signed in or not. There is no INSERT policy for it, so
-- nobody sends but those whom policies do not bind: service_role, and the owner of the table, from SQL:
--   select realtime.send('{"text": "Maintenance at noon"}', 'announcement', 'announcements');
--
-- It depends on no table, so there is nothing to watch.
create policy "everybody receives announcements" on realtime.messages for select to anon, authenticated
using (topic = realtime.topic() and realtime.topic() = 'announcements' and extension = 'broadcast');
