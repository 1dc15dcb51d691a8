-- A private channel per room, topic room:<id>. Members receive and send; muted members receive, and may be present, but
-- send nothing.
--
-- Needs: public.members (user_id uuid, room_id integer, muted boolean) with its primary key on (user_id, room_id), SELECT on
-- it for authenticated, and auth.sql.
--
-- topic = realtime.topic(): the row must be of the topic that was asked about. Without it, somebody who may run SQL as a
-- token role could ask about one topic and write to another.
-- 'room:' || room_id: the topic is built from the row, never taken apart, so room:1x or room:01 are nobody's.
-- (select auth.uid()): in a subquery it is computed once, not once per row.
create policy "room members receive" on realtime.messages for select to authenticated
using (
  topic = realtime.topic()
  and exists (
    select from public.members m
     where m.user_id = (select auth.uid()) and 'room:' || m.room_id = realtime.topic())
);

create policy "room members send, unless muted" on realtime.messages for insert to authenticated
with check (
  topic = realtime.topic()
  and extension in ('broadcast', 'presence')
  and exists (
    select from public.members m
     where m.user_id = (select auth.uid()) and 'room:' || m.room_id = realtime.topic()
       and (extension = 'presence' or not m.muted))
);

-- A change of memberships changes rights. All channels of the user concerned are decided again, not only room:<id>: other
-- samples read the same table for other topics, and there is one watch() per table: the last call counts, so all of them
-- make the same one. Where a table has columns that change often and that no policy reads, columns => names the others.
select realtime.watch('public.members', subject => 'user_id');
