-- A change of a membership concerns one person in one room.
select realtime.watch('public.members', subject => 'user_id', topic => 'room:{room_id}');
