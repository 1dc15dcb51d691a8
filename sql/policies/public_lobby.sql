-- One channel for all, topic lobby. Everybody who is signed in receives; only who is a member of some room sends.
--
-- Needs: public.members as in room_members.sql, and auth.sql.
create policy "everybody signed in receives in the lobby" on realtime.messages for select to authenticated
using (topic = realtime.topic() and realtime.topic() = 'lobby');

create policy "members send in the lobby" on realtime.messages for insert to authenticated
with check (
  topic = realtime.topic() and realtime.topic() = 'lobby' and extension in ('broadcast', 'presence')
  and exists (select from public.members m where m.user_id = (select auth.uid()))
);

select realtime.watch('public.members', subject => 'user_id');
