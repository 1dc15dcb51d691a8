-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- A NOTIFY reaches those who listen at its COMMIT, and nobody later. What a server needs to make up for an outage is in
-- tables: messages in the journal, and here the marks and the users to be disconnected.
create table realtime._marks (
  xid         xid8      not null,
  aim         text      not null collate "C",
  -- known to nobody before COMMIT: who has heard it has heard this mark
  token       uuid      not null default gen_random_uuid(),
  inserted_at timestamp not null default timezone('utc', now()),
  primary key (xid, aim)
);
create index on realtime._marks using brin (inserted_at);  -- for dropping what is old
alter table realtime._marks enable row level security;
comment on table realtime._marks is 'What transactions had the server decide again, for one that did not hear it; kept for a day at most. Lenient marks are not in it: after an outage everyone is decided again anyway.';
comment on column realtime._marks.aim is 'JSON: s the subject, t the topic; without them every subject, every topic.';

create table realtime._disconnects (
  xid         xid8      not null,
  -- known to nobody before COMMIT: a notification that names it was sent by this transaction or after it
  token       uuid      not null default gen_random_uuid(),
  subject     text      not null check (subject <> ''),
  reason      text,
  inserted_at timestamp not null default timezone('utc', now()),
  primary key (xid, token)
);
create index on realtime._disconnects using brin (inserted_at);  -- for dropping what is old
alter table realtime._disconnects enable row level security;
comment on table realtime._disconnects is 'Users whose sessions a transaction had closed. A notification only says where to look: anyone can send one, and only what is here is done. Kept for a day at most.';
comment on column realtime._disconnects.reason is 'Told to the user.';

create table realtime._dropped (
  one  boolean primary key default true check (one),
  xid  xid8 not null,
  upto xid8 not null
);
alter table realtime._dropped enable row level security;
comment on table realtime._dropped is 'Whoever has to catch up from before the transaction xid misses what those up to upto had left in the journal, among the marks and among the disconnects: it dropped that.';

-- +goose StatementBegin
create function realtime._changed(subject text, topic text, lenient boolean) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  marks text := current_setting('realtime.marks', true);
  aim   text := '{}';
  token uuid;
begin
  if marks ~ '^[0-9]{4,6}$' then  -- too many to name: everyone
    lenient := false;
  elsif subject is not null or topic is not null or lenient then
    perform set_config('realtime.marks', (case when marks ~ '^[0-9]{1,3}$' then marks::int + 1 else 1 end)::text, true);
    aim := json_strip_nulls(json_build_object('s', subject, 't', topic));
    if octet_length(aim) > 2000 then  -- too long for NOTIFY and an index
      aim := '{}'; lenient := false;
    end if;
  end if;
  if lenient then
    perform realtime._mark(subject, topic, true);
    return;
  end if;
  -- Once in a transaction. Nothing is looked for in the table: a serializable writer would be held responsible for what it
  -- had read.
  insert into realtime._marks (xid, aim) values (pg_current_xact_id(), aim) on conflict do nothing
    returning _marks.token into token;
  if found then
    perform realtime._say('r {"x":"' || pg_current_xact_id() || '","k":"' || token || '"' || case aim when '{}' then '}' else ',' || substr(aim, 2) end, true);
  end if;
end $$;
-- +goose StatementEnd
comment on function realtime._changed(text, text, boolean) is 'A mark that is also kept, for a server that does not hear it. From the thousandth of a transaction on they mean everyone.';

-- As in 00005, but what it says is kept. (_fill stays: a trigger under way may be calling it.) A column's text is what its type's
-- output gives: to_jsonb() and casts to text run what the owner of a type says, and here they would as the server. And columns are
-- named as of a subquery: ($1).name may also be a function of that name.
-- +goose StatementBegin
create or replace function realtime._rights_changed() returns trigger
  language plpgsql security definer set search_path = '' as $$
declare
  head           pg_catalog.text[] := case when tg_argv[0] like '{%' then tg_argv[0]::pg_catalog.text[] else array[nullif(tg_argv[0], '')] end;
  subject_column pg_catalog.text := head[1];
  columns        pg_catalog.text[] := head[2:];  -- of the server's own watches, which have them here and not in a condition
  topic_parts    pg_catalog.text[] := tg_argv[1:];
  changed        boolean;
  plain          boolean;
  texts          pg_catalog.text;  -- an expression for these columns
  source         pg_catalog.jsonb;
  topic          pg_catalog.text;
begin
  if tg_level = 'STATEMENT' or current_setting('realtime.marks', true) ~ '^[0-9]{4,6}$' then  -- too many to name: everyone
    perform realtime._changed(null, null, false);
    return null;
  end if;
  if tg_op = 'UPDATE' and cardinality(columns) > 0 then
    begin
      execute (select format('select (select row(%1$s)::pg_catalog.record from (select ($1).*) as "_") *<> (select row(%1$s)::pg_catalog.record from (select ($2).*) as "_")', string_agg(format('%I', c), ', ')) from unnest(columns) as c)
        into changed using old, new;
      if not changed then return null; end if;
    exception when others then null;  -- a column is gone, say: so all count
    end;
  end if;
  -- Where all types are Postgres' own nobody has said anything. (The writer's lock keeps them so; but an old snapshot may show others.)
  plain := current_setting('transaction_isolation') like 'read %'
           and not exists (select from pg_catalog.pg_attribute where attrelid = tg_relid and attnum > 0 and atttypid >= 16384);
  if not plain then
    texts := (
      select string_agg(format(case when t.typoutput = 'pg_catalog.boolout'::pg_catalog.regproc
                        then '%L, case pg_catalog.concat(%I) when ''t'' then ''true'' when ''f'' then ''false'' end'
                        else '%1$L, case when pg_catalog.num_nulls(%2$I) = 0 then pg_catalog.concat(%2$I) end' end, a.attname, a.attname), ', ')
        from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
       where a.attrelid = tg_relid and a.attnum > 0 and a.attname = any ((subject_column || topic_parts)::pg_catalog.name[]));
  end if;
  for pass in 1 .. 2 loop
    continue when pass = 1 and tg_op = 'INSERT' or pass = 2 and tg_op = 'DELETE';
    begin
      source := '{}';
      if plain then
        source := case pass when 1 then to_jsonb(old) else to_jsonb(new) end;
      elsif texts is not null then
        execute format('select pg_catalog.jsonb_build_object(%s) from (select ($%s).*) as "_"', texts, pass) into source using old, new;
      end if;
    exception when others then     -- a row too large for jsonb, say: whom it concerns is not known, so it concerns everyone
      source := '{}';
    end;
    topic := topic_parts[1];  -- a column that is null or gone makes it unknown
    for i in 2 .. cardinality(topic_parts) loop
      topic := topic || case i % 2 when 1 then topic_parts[i] else source ->> topic_parts[i] end;
    end loop;
    perform realtime._changed(source ->> subject_column, topic, subject_column is null);
  end loop;
  return null;
end $$;
-- +goose StatementEnd

-- SECURITY DEFINER for the sake of _marks; whoever may call it is decided by EXECUTE, as before.
-- +goose StatementBegin
create or replace function realtime.invalidate(subject text default null, topic text default null) returns void
  language plpgsql security definer set search_path = '' as $$ begin perform realtime._changed(subject, topic, false); end $$;
-- +goose StatementEnd

-- As in 00002, with the marks, and a note of what was dropped.
-- +goose StatementBegin
create or replace function realtime._maintain(retention interval) returns table (created int, dropped int)
  language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  today  date := timezone('utc', now())::date;
  cutoff timestamp := timezone('utc', now()) - retention;
  marked timestamp := timezone('utc', now()) - least(retention, interval '1 day');
  part   regclass;
begin
  created := 0; dropped := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('rowcast.maintain', 0)) then
    return next;  -- another server is at it
    return;
  end if;
  -- What a dump of another cluster brought: transactions whose ids are still to be given out here, to others.
  delete from realtime._journal where xid >= pg_snapshot_xmax(pg_current_snapshot());
  delete from realtime._marks where xid >= pg_snapshot_xmax(pg_current_snapshot());
  delete from realtime._disconnects where xid >= pg_snapshot_xmax(pg_current_snapshot());
  delete from realtime._dropped where xid >= pg_snapshot_xmax(pg_current_snapshot());
  -- First what may take long: the locks of what follows are held until the transaction ends.
  with entries as (delete from realtime._journal j where j.inserted_at < cutoff returning j.xid),
       marks   as (delete from realtime._marks m where m.inserted_at < marked returning m.xid),
       cut     as (delete from realtime._disconnects d where d.inserted_at < marked returning d.xid),
       gone    as (select xid from entries union all select xid from marks union all select xid from cut)
  insert into realtime._dropped as last (xid, upto) select pg_current_xact_id(), gone.xid from gone order by gone.xid desc limit 1
    on conflict (one) do update set xid = excluded.xid, upto = greatest(last.upto, excluded.upto);
  for i in -1 .. 3 loop
    if realtime._create_partition(today + i) then created := created + 1; end if;
  end loop;
  delete from realtime.messages_default where inserted_at < cutoff and inserted_at >= '0001-01-02';
  -- DROP locks messages as a whole. Every decision waits as long as we do, so a transaction that is in the way is not
  -- waited for; in an hour we are back.
  perform set_config('lock_timeout', '100ms', true);
  for part in
    select inhrelid from pg_inherits join pg_class on pg_class.oid = inhrelid
     where inhparent = 'realtime.messages'::regclass and relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
       and to_date(right(relname, 10), 'YYYY_MM_DD') + 1 <= cutoff
  loop
    begin
      execute format('drop table %s', part);
      dropped := dropped + 1;
    exception when lock_not_available then
      raise warning 'realtime.messages is in use: % is to be dropped later', part;
      exit;
    end;
  end loop;
  return next;
end $$;
-- +goose StatementEnd
comment on function realtime._maintain(interval) is 'Makes the partitions from yesterday to three days ahead; drops those older than the retention, and marks and disconnects older than a day. Run by the server at its start and every hour.';

revoke execute on function realtime._changed(text, text, boolean) from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- +goose StatementBegin
create or replace function realtime._maintain(retention interval) returns table (created int, dropped int)
  language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  today  date := timezone('utc', now())::date;
  cutoff timestamp := timezone('utc', now()) - retention;
  part   regclass;
begin
  created := 0; dropped := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('rowcast.maintain', 0)) then
    return next;  -- another server is at it
    return;
  end if;
  -- First what may take long: the locks of what follows are held until the transaction ends.
  delete from realtime._journal j where j.inserted_at < cutoff;
  for i in -1 .. 3 loop
    if realtime._create_partition(today + i) then created := created + 1; end if;
  end loop;
  delete from realtime.messages_default where inserted_at < cutoff and inserted_at >= '0001-01-02';
  -- DROP locks messages as a whole. Every decision waits as long as we do, so a transaction that is in the way is not
  -- waited for; in an hour we are back.
  perform set_config('lock_timeout', '100ms', true);
  for part in
    select inhrelid from pg_inherits join pg_class on pg_class.oid = inhrelid
     where inhparent = 'realtime.messages'::regclass and relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
       and to_date(right(relname, 10), 'YYYY_MM_DD') + 1 <= cutoff
  loop
    begin
      execute format('drop table %s', part);
      dropped := dropped + 1;
    exception when lock_not_available then
      raise warning 'realtime.messages is in use: % is to be dropped later', part;
      exit;
    end;
  end loop;
  return next;
end $$;
-- +goose StatementEnd
comment on function realtime._maintain(interval) is 'Makes the partitions from yesterday to three days ahead, drops those older than the retention. Run by the server at its start and every hour.';
-- +goose StatementBegin
create or replace function realtime.invalidate(subject text default null, topic text default null) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$ begin perform realtime._mark(subject, topic); end $$;
-- +goose StatementEnd
-- +goose StatementBegin
create or replace function realtime._rights_changed() returns trigger
  language plpgsql security definer set search_path = '' as $$
declare
  subject_column pg_catalog.text := nullif(tg_argv[0], '');
  topic_parts    pg_catalog.text[] := tg_argv[1:];
  marks          int := case when current_setting('realtime.marks', true) ~ '^\d{1,6}$' then current_setting('realtime.marks')::int else 0 end;
  source         pg_catalog.jsonb;
begin
  if tg_level = 'STATEMENT' or marks >= 1000 then  -- too many to name: everyone
    perform realtime._mark(null, null);
    return null;
  end if;
  perform set_config('realtime.marks', (marks + 1)::pg_catalog.text, true);
  for pass in 1 .. 2 loop
    continue when pass = 1 and tg_op = 'INSERT' or pass = 2 and tg_op = 'DELETE';
    begin
      source := case pass when 1 then to_jsonb(old) else to_jsonb(new) end;
    exception when others then     -- a row too large for jsonb: whom it concerns is not known, so it concerns everyone
      source := '{}';
    end;
    perform realtime._mark(source ->> subject_column, realtime._fill(topic_parts, source), subject_column is null);
  end loop;
  return null;
end $$;
-- +goose StatementEnd
drop function realtime._changed(text, text, boolean);
drop table realtime._dropped;
drop table realtime._disconnects;
drop table realtime._marks;
