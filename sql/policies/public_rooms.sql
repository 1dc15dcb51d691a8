-- Rooms that are open to the public, topic room:<id>: everybody who is signed in receives. To send, one becomes a member:
-- room_members.sql is beside this one.
--
-- Needs: public.rooms (id integer, is_public boolean), which everybody may read as far as it is public, and auth.sql.
create policy "everybody signed in receives in public rooms" on realtime.messages for select to authenticated
using (
  topic = realtime.topic()
  and exists (select from public.rooms r where r.is_public and 'room:' || r.id = realtime.topic())
);

-- A room that is made private concerns all who are in it, so it is the topic that says whom.
select realtime.watch('public.rooms', topic => 'room:{id}', columns => '{is_public}');
