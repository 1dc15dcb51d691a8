-- Rights by the clock, topic desk:<id>: everybody who is signed in may be at a desk and hear it, and speaks while it is open.
--
-- Opening hours are rows with two instants; what plans them writes some weeks ahead. With valid_until() the server knows when
-- to ask again. A time of day (localtime between '09:00' and '17:00') it could not know: nothing changes in the database when
-- the clock strikes, so an open session would keep what it had.
--
-- Needs: auth.sql. Brings public.desks and public.desk_hours.
create table public.desks (
  id   integer primary key,
  name text not null
);
create table public.desk_hours (
  desk_id integer     not null references public.desks on delete cascade,
  opens   timestamptz not null,
  closes  timestamptz not null,
  primary key (desk_id, opens),
  check (opens < closes)
);
grant select on public.desks, public.desk_hours to authenticated;
alter table public.desks enable row level security;
alter table public.desk_hours enable row level security;
create policy "everybody's desks" on public.desks for select to authenticated using (true);
create policy "everybody's hours" on public.desk_hours for select to authenticated using (true);

create policy "everybody signed in hears desks" on realtime.messages for select to authenticated
using (topic = realtime.topic() and exists (select from public.desks d where 'desk:' || d.id = realtime.topic()));

create policy "everybody signed in speaks while the desk is open" on realtime.messages for insert to authenticated
with check (
  topic = realtime.topic() and extension in ('broadcast', 'presence')
  and exists (
    select from public.desk_hours h
     where 'desk:' || h.desk_id = realtime.topic()
       and not realtime.valid_until(h.opens) and realtime.valid_until(h.closes))
);

select realtime.watch('public.desks', topic => 'desk:{id}', columns => '{}');  -- its name gives no right
select realtime.watch('public.desk_hours', topic => 'desk:{desk_id}');
