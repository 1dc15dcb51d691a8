-- Guests only listen, on all channels of a room: they may be present and send nothing, whatever other policies give them.
--
-- RESTRICTIVE: permissive policies are alternatives, any one of them is enough; of the restrictive ones all must hold. So
-- this one takes away and never gives: it is used beside others, such as room_members.sql.
--
-- Needs: public.members as in chat.sql, and auth.sql. The user must be able to read the row that says so: a policy that
-- looks for a reason to refuse lets everybody pass who may not see the reason.
create policy "guests only listen" on realtime.messages as restrictive for insert to authenticated
with check (
  extension <> 'broadcast'
  or not exists (
    select from public.members m
     where m.user_id = (select auth.uid()) and m.role = 'guest'
       and (realtime.topic() = 'room:' || m.room_id or starts_with(realtime.topic(), 'room:' || m.room_id || ':')))
);

select realtime.watch('public.members', subject => 'user_id');
