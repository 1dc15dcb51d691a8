-- $1 is no longer a member of any room.
delete from public.members where user_id = $1;
