-- What the scenarios' people have rights by: membership in a room. Scenarios that need other policies make them, each for
-- a topic of its own. Every user id is a uuid, because auth.uid() raises on anything else.
create table members (
  user_id  uuid,
  room_id  text,
  may_send boolean not null default true,
  primary key (user_id, room_id)
);
grant select on members to authenticated;
select realtime.watch('members', subject => 'user_id', topic => 'room:{room_id}');

create policy members_receive on realtime.messages for select to authenticated
  using (extension = 'broadcast' and exists (
    select from members m where m.user_id = (select auth.uid()) and 'room:' || m.room_id = (select realtime.topic())));
create policy members_send on realtime.messages for insert to authenticated
  with check (extension = 'broadcast' and exists (
    select from members m where m.user_id = (select auth.uid()) and 'room:' || m.room_id = (select realtime.topic()) and m.may_send));

-- What Postgres Changes tells of. Scenarios add their tables.
create table held (id int primary key);
grant select on held to authenticated;
create publication supabase_realtime for table held;
