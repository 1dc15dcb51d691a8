-- The moderators' back channel, topic room:<id>:moderators: moderators and who ranks higher. Who is demoted is cut off.
--
-- Needs: public.members as in chat.sql, and auth.sql. One rule for both directions: two policies with one helper. Its body
-- is parsed when it is made (BEGIN ATOMIC), so that Postgres records that it reads public.members. It reads as the user.
create function public.moderates(topic text) returns boolean language sql stable set search_path = ''
begin atomic
  select exists (
    select from public.members m
     where m.user_id = (select auth.uid()) and 'room:' || m.room_id || ':moderators' = moderates.topic
       and m.role >= 'moderator');
end;
comment on function public.moderates(text) is 'Whether this is the back channel of a room that the user moderates.';

create policy "moderators receive" on realtime.messages for select to authenticated
using (topic = realtime.topic() and (select public.moderates(realtime.topic())));

create policy "moderators send" on realtime.messages for insert to authenticated
with check (topic = realtime.topic() and extension in ('broadcast', 'presence') and (select public.moderates(realtime.topic())));

select realtime.watch('public.members', subject => 'user_id');
