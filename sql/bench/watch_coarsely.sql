-- A change of a membership may concern everybody.
select realtime.watch('public.members');
