-- Who is online, topic online: everybody who is signed in may be present and see who else is. The extension tells the two
-- uses of a channel apart: no broadcast is received or sent here.
--
-- It depends on no table, so there is nothing to watch.
create policy "everybody signed in sees who is online" on realtime.messages for select to authenticated
using (topic = realtime.topic() and realtime.topic() = 'online' and extension = 'presence');

create policy "everybody signed in may be online" on realtime.messages for insert to authenticated
with check (topic = realtime.topic() and realtime.topic() = 'online' and extension = 'presence');
