-- Temporary access, topic room:<id>: visitors receive until their time is over, and are cut off at that instant. No job has to
-- delete the row: valid_until() tells the server when to ask again.
--
-- Needs: auth.sql. Brings public.visitors.
create table public.visitors (
  user_id uuid        not null references public.people on delete cascade,
  room_id integer     not null references public.rooms on delete cascade,
  until   timestamptz not null,
  primary key (user_id, room_id)
);
grant select on public.visitors to authenticated;
alter table public.visitors enable row level security;
create policy "own visits" on public.visitors for select to authenticated using (user_id = (select auth.uid()));

create policy "visitors receive for a time" on realtime.messages for select to authenticated
using (
  topic = realtime.topic()
  and exists (
    select from public.visitors v
     where v.user_id = (select auth.uid()) and 'room:' || v.room_id = realtime.topic()
       and realtime.valid_until(v.until))
);

select realtime.watch('public.visitors', subject => 'user_id');
