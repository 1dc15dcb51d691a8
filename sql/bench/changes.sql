-- Tables whose rows are told: to all, to those of an organization, to their owner, who is found out for each row or once; to
-- whose organization is looked up in another table; and one without row level security.
create table public.told_all (id bigint generated always as identity primary key, owner uuid, org int, body text);
alter table public.told_all alter body set storage external; -- a large one is as large in the WAL
create table public.told_org (like public.told_all including all);
create table public.told_own (like public.told_all including all);
create table public.told_once (like public.told_all including all);
create table public.told_member (like public.told_all including all);
create table public.told_members (user_id uuid, org int, primary key (user_id, org));
insert into public.told_members select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, n % 20 from generate_series(0, 19999) n;
analyze public.told_members;
create table public.told_open (like public.told_all including all);
alter table public.told_all enable row level security;
alter table public.told_org enable row level security;
alter table public.told_own enable row level security;
alter table public.told_once enable row level security;
alter table public.told_member enable row level security;
create policy everyone on public.told_all for select to authenticated using (true);
create policy colleagues on public.told_org for select to authenticated using (org = (auth.jwt() ->> 'org')::int);
create policy owners on public.told_own for select to authenticated using (owner = auth.uid());
create policy owners on public.told_once for select to authenticated using (owner = (select auth.uid()));
create policy members on public.told_member for select to authenticated
  using (exists (select from public.told_members m where m.user_id = (select auth.uid()) and m.org = told_member.org));
grant select on public.told_members, public.told_all, public.told_org, public.told_own, public.told_once, public.told_member, public.told_open to authenticated;
create publication bench_changes for table public.told_all, public.told_org, public.told_own, public.told_once, public.told_member, public.told_open;

-- Rows number first to last - 1, each in a transaction of its own. The owner of row n is person n % owners of fill.sql, his organization n % 20.
create procedure public.tell(relation regclass, first int, last int, owners int) language plpgsql as $$
begin
  for n in first .. last - 1 loop
    execute format('insert into %s (owner, org, body) values ($1, $2, $3)', relation)
      using ('00000000-0000-4000-8000-' || lpad((n % owners)::text, 12, '0'))::uuid, n % 20, 'about as long as what people write: ' || n;
    commit;
  end loop;
end $$;

-- What the server asks is logged, so that it can be counted.
do $$ begin
  execute format('alter role rowcast in database %I set log_statement = ''all''', current_database());
  execute format('alter role rowcast in database %I set log_parameter_max_length = 0', current_database());
end $$;
