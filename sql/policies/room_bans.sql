-- Bans, for good or for a time: who is banned from a room is on none of its channels, whatever other policies give.
--
-- Needs: auth.sql, and beside it policies that give, such as room_members.sql: this one is RESTRICTIVE (see room_guests.sql).
-- Brings public.bans. People may read their own bans: a ban that its policy cannot see binds nobody.
create table public.bans (
  user_id uuid        not null references public.people on delete cascade,
  room_id integer     not null references public.rooms on delete cascade,
  until   timestamptz,  -- null: for good
  primary key (user_id, room_id)
);
grant select on public.bans to authenticated;
alter table public.bans enable row level security;
create policy "own bans" on public.bans for select to authenticated using (user_id = (select auth.uid()));

create policy "the banned stay out" on realtime.messages as restrictive for all to authenticated
using (
  not exists (
    select from public.bans b
     where b.user_id = (select auth.uid())
       and (realtime.topic() = 'room:' || b.room_id or starts_with(realtime.topic(), 'room:' || b.room_id || ':'))
       and (b.until is null or realtime.valid_until(b.until)))
);

select realtime.watch('public.bans', subject => 'user_id');
