-- Isolation of organisations: rooms that belong to one are open to its people alone, whatever other policies give. Rooms of
-- none stay as they are. RESTRICTIVE, so it is used beside policies that give (see room_guests.sql).
--
-- Needs: room_members.sql or the like, and auth.sql. Brings public.organisations, public.employees and
-- public.organisation_rooms.
create table public.organisations (
  id   integer primary key,
  name text not null
);
create table public.employees (
  user_id         uuid    primary key references public.people on delete cascade,  -- of one organisation at a time
  organisation_id integer not null references public.organisations on delete cascade
);
create table public.organisation_rooms (
  room_id         integer primary key references public.rooms on delete cascade,
  organisation_id integer not null references public.organisations on delete cascade
);
alter table public.organisations enable row level security;  -- and no policies: nobody has to read these but the function
alter table public.employees enable row level security;
alter table public.organisation_rooms enable row level security;

-- SECURITY DEFINER: it must see to whom a room belongs also where the user may not. If it read as the user, a room that
-- the user cannot see would pass for one that belongs to nobody. It tells no more than yes or no about a topic.
create function public.is_foreign(topic text) returns boolean language sql stable security definer set search_path = ''
begin atomic
  select exists (
    select from public.organisation_rooms r
     where (is_foreign.topic = 'room:' || r.room_id or starts_with(is_foreign.topic, 'room:' || r.room_id || ':'))
       and r.organisation_id is distinct from (select e.organisation_id from public.employees e where e.user_id = (select auth.uid())));
end;
comment on function public.is_foreign(text) is 'Whether the topic belongs to an organisation that is not the user''s.';

create policy "no foreign organisation" on realtime.messages as restrictive for all to anon, authenticated
using (not (select public.is_foreign(realtime.topic())));

select realtime.watch('public.employees', subject => 'user_id');
select realtime.watch('public.organisation_rooms');  -- of whose topics there are several a room
