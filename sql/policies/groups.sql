-- Groups of any number of people, topic group:<id>, in which all are equal: who is in it receives and sends.
--
-- Needs: auth.sql. Brings public.groups and public.group_members.
create table public.groups (
  id   uuid primary key default gen_random_uuid(),
  name text not null
);
create table public.group_members (
  user_id  uuid not null references public.people on delete cascade,
  group_id uuid not null references public.groups on delete cascade,
  primary key (user_id, group_id)
);
grant select on public.groups, public.group_members to authenticated;
alter table public.groups enable row level security;
alter table public.group_members enable row level security;
create policy "own group memberships" on public.group_members for select to authenticated using (user_id = (select auth.uid()));
create policy "own groups" on public.groups for select to authenticated
  using (exists (select from public.group_members m where m.group_id = groups.id));

create policy "group members receive" on realtime.messages for select to authenticated
using (
  topic = realtime.topic()
  and exists (
    select from public.group_members m
     where m.user_id = (select auth.uid()) and 'group:' || m.group_id = realtime.topic())
);

create policy "group members send" on realtime.messages for insert to authenticated
with check (
  topic = realtime.topic() and extension in ('broadcast', 'presence')
  and exists (
    select from public.group_members m
     where m.user_id = (select auth.uid()) and 'group:' || m.group_id = realtime.topic())
);

-- Groups are read by no policy on messages: deleting one deletes its memberships, and these are watched.
select realtime.watch('public.group_members', subject => 'user_id');
