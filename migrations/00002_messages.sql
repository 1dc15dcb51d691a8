-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
create table realtime.messages (
  topic          text      not null,
  extension      text      not null,
  payload        jsonb,
  event          text,
  private        boolean            default false,
  -- UTC whatever the session's TimeZone: partitions and replay windows are cut by it
  updated_at     timestamp not null default timezone('utc', now()),
  inserted_at    timestamp not null default timezone('utc', now()),
  id             uuid      not null default gen_random_uuid(),
  binary_payload bytea,
  primary key (id, inserted_at),
  constraint messages_payload_exclusive check (payload is null or binary_payload is null),
  -- The end of every send probe (see _decide): RLS has passed when this fires. Only the row that was asked about meets
  -- it: not one that a policy's function inserts, and not what a user's trigger made of the probe.
  constraint messages_probe check (id || ' ' || extension || ' ' || topic is distinct from current_setting('realtime.probe', true))
) partition by range (inserted_at);
alter table realtime.messages enable row level security;

comment on table realtime.messages is
  'Messages sent from SQL, kept for MESSAGE_RETENTION. Its RLS policies are the rights of private channels: a SELECT policy says who may receive, an INSERT policy who may send; compare topic with realtime.topic() and extension with broadcast or presence.';
comment on column realtime.messages.topic is 'Channel name, without the prefix realtime: of the wire.';
comment on column realtime.messages.extension is 'broadcast or presence: what the right is asked for. Only broadcast rows are delivered.';
comment on column realtime.messages.payload is 'JSON content; empty when binary_payload is used.';
comment on column realtime.messages.event is 'Event name that receivers listen for, at most 255 bytes.';
comment on column realtime.messages.private is 'true: delivered to the private channel of this name; otherwise to the public one.';
comment on column realtime.messages.updated_at is 'UTC.';
comment on column realtime.messages.inserted_at is 'UTC; the partition key.';
comment on column realtime.messages.id is 'Reaches receivers as meta.id.';
comment on column realtime.messages.binary_payload is 'Raw content, for clients that speak wire version 2.0.0.';

create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
  where extension = 'broadcast' and private is true;

-- An insert never fails for want of a partition.
create table realtime.messages_default partition of realtime.messages default;
-- The policies of messages guard what goes through messages. A partition of its own name has none, and is closed.
alter table realtime.messages_default enable row level security;
comment on table realtime.messages_default is 'Rows of days that have no partition yet; moved out when their partition is made.';

-- Probe rows of the receive side live here and nowhere else; always rolled back, so nothing is ever kept.
create unlogged table realtime._messages_probe partition of realtime.messages
  for values from (minvalue) to ('0001-01-02')
  -- aborted inserts are removed by VACUUM alone; and a table cut to zero pages makes the planner prefer a sequential scan
  with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, vacuum_truncate = off);
alter table realtime._messages_probe enable row level security;
comment on table realtime._messages_probe is 'Takes the rows with which a decision asks whether a role may receive; each is rolled back at once.';

-- +goose StatementBegin
do $$ begin
  if exists (select from pg_roles where rolname = 'anon')          then grant select, insert on realtime.messages to anon; end if;
  if exists (select from pg_roles where rolname = 'authenticated') then grant select, insert on realtime.messages to authenticated; end if;
  if exists (select from pg_roles where rolname = 'service_role')  then grant select, insert on realtime.messages to service_role; end if;
end $$;
-- +goose StatementEnd

create function realtime.topic() returns text
  language sql stable parallel safe
  return nullif(current_setting('realtime.topic', true), '');
comment on function realtime.topic() is 'The topic being decided, for use in policies; null outside a decision.';

-- Which transaction inserted a message, and in which order within it: what messages.xmin cannot say (it may be a
-- subtransaction's) and a NOTIFY may not (anyone can send one).
create table realtime._journal (
  xid         xid8      not null,
  seq         bigint    not null generated always as identity,
  message_id  uuid      not null,
  inserted_at timestamp not null,
  -- known to nobody before COMMIT: a notification sent ahead of ours would overtake the marks before it
  token       uuid      not null default gen_random_uuid(),
  primary key (xid, seq)
);
create index on realtime._journal using brin (inserted_at);  -- for dropping what is old
alter table realtime._journal enable row level security;
comment on table realtime._journal is 'One row for each message to deliver: its transaction and its place in it. Written by a trigger, read by the server, kept as long as the message.';

-- Where the servers listen. Read by every transaction that has something to say, and in effect at once: a sequence is seen
-- without a snapshot. So what a transaction says after it was given its id goes the way that was set when it was, or a later
-- one; whoever changes the way and then takes a snapshot finds all that may have gone the old one among those still running.
create sequence realtime._source as bigint minvalue 0 start 0;
comment on sequence realtime._source is
  'The way by which messages are said, in the lowest two bits: 0 NOTIFY, 1 both, 2 the WAL. Above them, how often it was the WAL alone (30 bits), then how often NOTIFY alone. Set by the servers.';
grant select on sequence realtime._source to public;

-- A transactional message in the WAL spares COMMIT what NOTIFY costs: those that notify are flushed one after the other. What
-- is decoded has been flushed, so who does not wait for that would be heard a fifth of a second later; of standbys he says
-- himself whether he waits.
-- +goose StatementBegin
create function realtime._say(hint text, alarm boolean default false) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare way bigint := (select last_value & 3 from realtime._source);
begin
  if alarm or way < 2 then
    perform pg_catalog.pg_notify('realtime', hint);
  end if;
  if way > 0 then
    if pg_catalog.current_setting('synchronous_commit') = 'off' then
      perform pg_catalog.set_config('synchronous_commit', 'local', true);
    end if;
    perform pg_catalog.pg_logical_emit_message(true, 'realtime', hint);
  end if;
end $$;
-- +goose StatementEnd
comment on function realtime._say(text, boolean) is
  'Tells the servers something at COMMIT, by the way that they have chosen; alarm: by NOTIFY in any case, which no bulk load delays. To be called by a transaction that has its id.';

-- A stream of the WAL has to name a publication. Of rows the feed wants none.
-- +goose StatementBegin
do $$ begin
  if exists (select from pg_publication where pubname = 'realtime_feed') then return; end if;
  if not has_database_privilege(current_database(), 'create') then
    raise notice 'publication realtime_feed not made, which takes CREATE on the database: messages go by NOTIFY alone';
    return;
  end if;
  create publication realtime_feed;
  comment on publication realtime_feed is 'Of no tables: for the stream of the WAL in which servers hear messages and marks.';
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function realtime._broadcast() returns trigger
  language plpgsql security definer set search_path = '' as $$
declare entry realtime._journal;
begin
  insert into realtime._journal (xid, message_id, inserted_at)
    values (pg_current_xact_id(), new.id, new.inserted_at) returning * into entry;
  perform realtime._say('m ' || entry.xid || ' ' || entry.seq || ' ' || entry.token);
  return null;
end $$;
-- +goose StatementEnd
comment on function realtime._broadcast() is 'Tells the server, at COMMIT, that a message is to be delivered. The notification names the journal row, never the content.';

-- messages_probe rows (year 1) are not messages.
create trigger broadcast after insert on realtime.messages
  for each row when (new.extension = 'broadcast' and new.inserted_at >= '0001-01-02')
  execute function realtime._broadcast();

-- +goose StatementBegin
create function realtime._create_partition(day date) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare part text := 'messages_' || to_char(day, 'YYYY_MM_DD');
begin
  if to_regclass('realtime.' || part) is not null then return false; end if;
  -- Whoever inserts now may be on the way to the default partition, and Postgres refuses a row that ATTACH overtakes there.
  -- Whoever reads now would find a row that is moved in neither partition: his plan knows of those that there were. Let
  -- them wait where the way has not been chosen yet. (Yesterday is the day of who began before midnight. For days to come
  -- nobody is hindered.)
  if day in (timezone('utc', now())::date, timezone('utc', now())::date - 1)
     or exists (select from realtime.messages_default where inserted_at >= day::timestamp and inserted_at < (day + 1)::timestamp) then
    lock table only realtime.messages in access exclusive mode;
  end if;
  -- First the default partition's lock: a row of this day that came in between the move and ATTACH would refuse it.
  lock table realtime.messages_default in access exclusive mode;
  execute format('create table realtime.%I (like realtime.messages including defaults including constraints)', part);
  execute format('alter table realtime.%I enable row level security', part);
  -- Not attached yet, so no trigger fires: what was broadcast when it was inserted is not broadcast again.
  execute format('with moved as (delete from realtime.messages_default where inserted_at >= $1 and inserted_at < $2 returning *)
                  insert into realtime.%I select * from moved', part) using day::timestamp, (day + 1)::timestamp;
  execute format('alter table realtime.messages attach partition realtime.%I for values from (%L) to (%L)', part, day, day + 1);
  return true;
exception when duplicate_table or duplicate_object then return false;  -- another server was quicker
end $$;
-- +goose StatementEnd
comment on function realtime._create_partition(date) is 'Makes the partition of one UTC day and moves the rows that wait for it in the default partition; false if it exists.';

-- +goose StatementBegin
create function realtime._maintain(retention interval) returns table (created int, dropped int)
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

revoke execute on function realtime._broadcast(), realtime._create_partition(date), realtime._maintain(interval) from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime._maintain(interval);
drop function realtime._create_partition(date);
drop table realtime.messages;
drop function realtime._broadcast();
-- It is in no schema, so it may be another's, who had it before or made it for us.
-- +goose StatementBegin
do $$ begin
  if exists (select from pg_publication where pubname = 'realtime_feed' and not pg_has_role(pubowner, 'usage')) then
    raise notice 'publication realtime_feed is left: it belongs to another role';
    return;
  end if;
  drop publication if exists realtime_feed;
end $$;
-- +goose StatementEnd
drop function realtime._say(text, boolean);
drop sequence realtime._source;
drop table realtime._journal;
drop function realtime.topic();
