-- Direct messages between two people, topic dm:<id>:<id>, the smaller id first, so that there is one topic for the two of
-- them. Either may block the conversation: both still see what is sent from SQL, and neither sends.
--
-- Needs: auth.sql. Brings public.conversations.
create table public.conversations (
  first   uuid    not null references public.people on delete cascade,
  second  uuid    not null references public.people on delete cascade,
  blocked boolean not null default false,
  primary key (first, second),
  check (first < second)
);
create index on public.conversations (second);
grant select on public.conversations to authenticated;
alter table public.conversations enable row level security;
create policy "own conversations" on public.conversations for select to authenticated
  using ((select auth.uid()) in (first, second));

create policy "the two receive" on realtime.messages for select to authenticated
using (
  topic = realtime.topic()
  and exists (
    select from public.conversations c
     where (select auth.uid()) in (c.first, c.second) and 'dm:' || c.first || ':' || c.second = realtime.topic())
);

create policy "the two send, unless one has blocked the other" on realtime.messages for insert to authenticated
with check (
  topic = realtime.topic() and extension in ('broadcast', 'presence')
  and exists (
    select from public.conversations c
     where (select auth.uid()) in (c.first, c.second) and 'dm:' || c.first || ':' || c.second = realtime.topic()
       and not c.blocked)
);

-- A row concerns two subjects, and one topic.
select realtime.watch('public.conversations', topic => 'dm:{first}:{second}');
