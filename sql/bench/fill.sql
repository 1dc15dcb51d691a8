-- 20,000 people more in the chat sample, each a member of one of 100 rooms: person n of room 1000 + n % 100.
insert into public.rooms (id, name)
  select 1000 + n, 'room ' || n from generate_series(0, 99) n;
insert into public.people (id, name)
  select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'person ' || n from generate_series(0, 19999) n;
insert into public.members (user_id, room_id)
  select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 1000 + n % 100 from generate_series(0, 19999) n;
analyze public.rooms, public.people, public.members;
