-- Several channels a room, topic room:<id>:<name>, and for each the rank that it takes to receive and to send. A row of the
-- table is a channel of every room; a change of it, such as of who may speak on the stage, changes rights at once.
--
-- Needs: public.members as in chat.sql, and auth.sql. Brings public.room_channels.
create table public.room_channels (
  name    text primary key check (name !~ ':'),  -- else two rows could build one topic
  receive public.room_role not null,
  send    public.room_role not null
);
insert into public.room_channels (name, receive, send) values
  ('stage', 'guest', 'moderator'), ('floor', 'guest', 'member'), ('office', 'admin', 'admin'), ('vault', 'admin', 'owner');
grant select on public.room_channels to authenticated;
alter table public.room_channels enable row level security;
create policy "everybody's channels" on public.room_channels for select to authenticated using (true);

create policy "who ranks high enough receives" on realtime.messages for select to authenticated
using (
  topic = realtime.topic()
  and exists (
    select from public.members m, public.room_channels c
     where m.user_id = (select auth.uid()) and 'room:' || m.room_id || ':' || c.name = realtime.topic()
       and m.role >= c.receive)
);

create policy "who ranks high enough sends" on realtime.messages for insert to authenticated
with check (
  topic = realtime.topic() and extension in ('broadcast', 'presence')
  and exists (
    select from public.members m, public.room_channels c
     where m.user_id = (select auth.uid()) and 'room:' || m.room_id || ':' || c.name = realtime.topic()
       and m.role >= c.send)
);

select realtime.watch('public.members', subject => 'user_id');
select realtime.watch('public.room_channels');
