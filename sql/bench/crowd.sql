-- Half of the people of fill.sql, in rooms of 20 as well: person n is a member of room 2000 + n / 20.
insert into public.rooms (id, name)
  select 2000 + n, 'crowd ' || n from generate_series(0, 499) n on conflict do nothing;
insert into public.members (user_id, room_id)
  select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 2000 + n / 20 from generate_series(0, 9999) n on conflict do nothing;
analyze public.rooms, public.members;
