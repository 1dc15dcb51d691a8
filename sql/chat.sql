-- The chat sample of `rowcast dev`: people, rooms, and who is a member of which room. The rights on channels that follow
-- from it are in policies/. It needs auth.sql. It stands in this package because a program can embed only what lies below
-- one of its packages.
create table public.people (
  id   uuid primary key,
  name text not null unique
);

create table public.rooms (
  id        integer primary key,
  name      text not null,
  is_public boolean not null default false
);

create type public.room_role as enum ('guest', 'member', 'moderator', 'admin', 'owner');  -- by rank: role >= 'admin'

create table public.members (
  user_id uuid    not null references public.people on delete cascade,
  room_id integer not null references public.rooms on delete cascade,
  role    public.room_role not null default 'member',
  muted   boolean not null default false,
  primary key (user_id, room_id)  -- in this order: policies look for one user's memberships
);
create index on public.members (room_id);

-- Policies on realtime.messages read these tables as the user, so the user needs both the grant and a policy here.
grant select on public.people, public.rooms, public.members to authenticated;
alter table public.people enable row level security;
alter table public.rooms enable row level security;
alter table public.members enable row level security;
create policy "everybody's name" on public.people for select to authenticated using (true);
create policy "own memberships" on public.members for select to authenticated using (user_id = (select auth.uid()));
create policy "public rooms and one's own" on public.rooms for select to authenticated
  using (is_public or exists (select from public.members where members.room_id = rooms.id));  -- one's own, by the policy above

insert into public.people (id, name) values
  ('a11ce000-0000-4000-8000-000000000001', 'alice'),
  ('b0b00000-0000-4000-8000-000000000002', 'bob'),
  ('ca201000-0000-4000-8000-000000000003', 'carol'),
  ('da5e0000-0000-4000-8000-000000000004', 'dave');
insert into public.rooms (id, name) values (1, 'general'), (2, 'team');
insert into public.members (user_id, room_id, role, muted) values
  ('a11ce000-0000-4000-8000-000000000001', 1, 'owner', false),
  ('a11ce000-0000-4000-8000-000000000001', 2, 'owner', false),
  ('b0b00000-0000-4000-8000-000000000002', 1, 'member', false),
  ('ca201000-0000-4000-8000-000000000003', 1, 'member', true);  -- dave is nowhere a member
