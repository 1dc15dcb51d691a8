-- A room's announcements, topic room:<id>:announcements: all its members receive, its admins and its owner send.
--
-- Needs: public.members as in chat.sql, and auth.sql. role >= 'admin' compares ranks: values of an enum are ordered as its
-- type lists them, guest < member < moderator < admin < owner.
create policy "members receive their rooms' announcements" on realtime.messages for select to authenticated
using (
  topic = realtime.topic() and extension = 'broadcast'
  and exists (
    select from public.members m
     where m.user_id = (select auth.uid()) and 'room:' || m.room_id || ':announcements' = realtime.topic())
);

create policy "admins announce" on realtime.messages for insert to authenticated
with check (
  topic = realtime.topic() and extension = 'broadcast'
  and exists (
    select from public.members m
     where m.user_id = (select auth.uid()) and 'room:' || m.room_id || ':announcements' = realtime.topic()
       and m.role >= 'admin')
);

select realtime.watch('public.members', subject => 'user_id');
