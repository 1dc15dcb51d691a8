-- Rights by relationship: every folder has a room, topic folder:<id>. A folder is shared with people, to read or to write, and
-- with it all folders below.
--
-- Needs: auth.sql. Brings public.folders and public.folder_shares.
create table public.folders (
  id        integer primary key,
  parent_id integer references public.folders on delete cascade,
  name      text not null
);
create index on public.folders (parent_id);
create table public.folder_shares (
  user_id   uuid    not null references public.people on delete cascade,
  folder_id integer not null references public.folders on delete cascade,
  may_write boolean not null default false,
  primary key (user_id, folder_id)
);
alter table public.folders enable row level security;
alter table public.folder_shares enable row level security;

-- SECURITY DEFINER: a policy on public.folders that asked this function would otherwise call itself. It tells users about
-- themselves only. union, and not union all: it ends also when somebody makes a folder its own grandparent.
create function public.shared_folders(to_write boolean) returns setof integer
  language sql stable security definer set search_path = ''
begin atomic
  with recursive shared (id) as (
    select s.folder_id from public.folder_shares s where s.user_id = (select auth.uid()) and (s.may_write or not to_write)
    union
    select f.id from public.folders f join shared on f.parent_id = shared.id
  ) select id from shared;
end;
comment on function public.shared_folders(boolean) is 'The folders that are shared with the user, and all below them.';
create policy "shared folders" on public.folders for select to authenticated using (id in (select public.shared_folders(false)));
create policy "own shares" on public.folder_shares for select to authenticated using (user_id = (select auth.uid()));
grant select on public.folders, public.folder_shares to authenticated;

create policy "receive in shared folders" on realtime.messages for select to authenticated
using (topic = realtime.topic() and realtime.topic() in (select 'folder:' || id from public.shared_folders(false) as id));

create policy "send in folders shared to write" on realtime.messages for insert to authenticated
with check (
  topic = realtime.topic() and extension in ('broadcast', 'presence')
  and realtime.topic() in (select 'folder:' || id from public.shared_folders(true) as id)
);

select realtime.watch('public.folder_shares', subject => 'user_id');
select realtime.watch('public.folders', columns => '{parent_id}');  -- a folder that is moved concerns all below it
