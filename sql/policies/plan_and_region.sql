-- Rights by attributes of the user: each channel of public.offers takes a plan, and may be for one region only. The topic is
-- a column: any text, compared as a whole.
--
-- Needs: auth.sql. Brings public.accounts and public.offers.
create type public.plan as enum ('free', 'pro', 'enterprise');  -- by rank
create table public.accounts (
  user_id uuid        primary key references public.people on delete cascade,
  plan    public.plan not null default 'free',
  region  text        not null
);
create table public.offers (
  topic  text        primary key,
  plan   public.plan not null,
  region text                      -- null: all
);
grant select on public.accounts, public.offers to authenticated;
alter table public.accounts enable row level security;
alter table public.offers enable row level security;
create policy "own account" on public.accounts for select to authenticated using (user_id = (select auth.uid()));
create policy "everybody's offers" on public.offers for select to authenticated using (true);

-- Not from claims of the token, such as auth.jwt() ->> 'plan': these stay as they are until the token expires.
create policy "receive what the plan offers" on realtime.messages for select to authenticated
using (
  topic = realtime.topic() and extension = 'broadcast'
  and exists (
    select from public.offers o join public.accounts a on a.plan >= o.plan and a.region = coalesce(o.region, a.region)
     where o.topic = realtime.topic() and a.user_id = (select auth.uid()))
);

select realtime.watch('public.accounts', subject => 'user_id');
select realtime.watch('public.offers', topic => '{topic}');
