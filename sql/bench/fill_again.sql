-- Gives back what revoke.sql took.
insert into public.members (user_id, room_id)
  select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 1000 + n % 100 from generate_series(0, 19999) n on conflict do nothing;
