-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- Who could read what, and when: for whoever has to answer that later. Empty unless DECISION_LOG says sql.
create table realtime.decisions (
  node             text        not null,
  number           bigint      not null,
  at               timestamptz not null,
  subscription     bigint      not null,
  event            text        not null,
  topic            text        not null,
  subject          text        not null,
  role             text        not null,
  receive          boolean     not null,
  send             boolean     not null,
  presence_receive boolean     not null,
  presence_send    boolean     not null,
  code             text        not null,
  sqlstate         text        not null,
  reason           text        not null,
  generation       bigint      not null,
  latency          interval    not null,
  primary key (node, number, at)
) partition by range (at);
create table realtime.decisions_default partition of realtime.decisions default;
create index on realtime.decisions (topic, at);
create index on realtime.decisions (subject, at);
alter table realtime.decisions enable row level security;
alter table realtime.decisions_default enable row level security;
comment on table realtime.decisions is 'What was decided about private channels, when it was new: a row for each join, each change of rights, each end. Decisions that change nothing are not in it. Written where DECISION_LOG says sql; a partition for each UTC day.';
comment on table realtime.decisions_default is 'Decisions of days whose partition was not made.';
comment on column realtime.decisions.number is 'In the order of events on one node, from 1 on. One that is missing was lost.';
comment on column realtime.decisions.at is 'When it took effect, by the server''s clock.';
comment on column realtime.decisions.node is 'The server, as in realtime._nodes.';
comment on column realtime.decisions.subscription is 'One channel on one socket, from its join to its end; numbered anew by each server. 0: a request over REST.';
comment on column realtime.decisions.event is 'admitted, refused: a join was. changed: the rights of an open channel did. confirmed: they did not, said again after twelve hours. ended: the channel was left or closed. answered: a request over REST. node_gone: a server stopped or was given up, and all its channels with it. lost: entries that are missing here, see reason.';
comment on column realtime.decisions.subject is 'The claim sub at that time; empty for none. Cut after 256 characters.';
comment on column realtime.decisions.receive is 'May receive broadcasts from here on.';
comment on column realtime.decisions.code is 'Of refused and ended: what the client was told; see docs/codes.md. Empty: it left by itself.';
comment on column realtime.decisions.sqlstate is 'Where a policy failed rather than said no.';
comment on column realtime.decisions.reason is 'In the words of Postgres, which no client is told. Cut after 300 characters.';
comment on column realtime.decisions.generation is 'How many times this subscription had been asked about.';
comment on column realtime.decisions.latency is 'From asking to the answer.';

-- _nodes loses a row when a server stops, and when another takes the place of one that does not answer any more.
-- +goose StatementBegin
create function realtime._node_gone() returns trigger
  language plpgsql security definer set search_path = '' as $$
begin
  insert into realtime.decisions (node, number, at, subscription, event, topic, subject, role, receive, send, presence_receive, presence_send, code, sqlstate, reason, generation, latency)
    select old.id, 0, least(now(), old.expires_at), 0, 'node_gone', '', '', '', false, false, false, false, '', '', old.name, 0, '0'
     where exists (select from realtime.decisions where node = old.id)
    on conflict do nothing;
  return null;
end $$;
-- +goose StatementEnd
comment on function realtime._node_gone() is 'Ends, in the decision log, the channels of a server that is gone.';
create trigger decisions after delete on realtime._nodes for each row execute function realtime._node_gone();

-- +goose StatementBegin
create function realtime.who_could(topic text, at timestamptz, action text default 'receive', extension text default 'broadcast')
  returns table (subject text, role text, since timestamptz, node text, subscription bigint)
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  -- No rows mean "nobody", so nothing else may look like it.
  if action is null or action not in ('receive', 'send') then
    raise exception 'who_could(): action is %, expected receive or send', coalesce(quote_literal(action), 'null') using errcode = '22023';
  elsif extension is null or extension not in ('broadcast', 'presence') then
    raise exception 'who_could(): extension is %, expected broadcast or presence', coalesce(quote_literal(extension), 'null') using errcode = '22023';
  elsif topic is null or at is null then
    raise exception 'who_could(): topic and time must be given' using errcode = '22004';
  end if;
  if not exists (select from realtime.decisions d where d.at <= who_could.at) then
    raise warning 'the decision log holds nothing from before then: DECISION_LOG was off, or what is older than DECISION_RETENTION is gone';
  elsif exists (select from realtime.decisions d where d.at <= who_could.at and d.event = 'lost') then
    raise warning 'entries from before then are missing: select at, node, reason from realtime.decisions where event = ''lost''';
  end if;
  return query
    select last.subject, last.role, last.at, last.node, last.subscription
      from (select distinct on (d.node, d.subscription) d.*
              from realtime.decisions d
             where d.topic = who_could.topic and d.at <= who_could.at and d.event in ('admitted', 'changed', 'confirmed', 'ended')
             order by d.node, d.subscription, d.number desc) as last
     where last.event <> 'ended'
       and case when extension = 'broadcast' then case action when 'receive' then last.receive else last.send end
                else case action when 'receive' then last.presence_receive else last.presence_send end end
       and not exists (select from realtime.decisions gone where gone.event = 'node_gone' and gone.node = last.node and gone.at <= who_could.at)
     order by last.subject, last.at;
end $$;
-- +goose StatementEnd
comment on function realtime.who_could(text, timestamptz, text, text) is
  'Who had an open channel on this topic at that time, with the right to receive (or send) broadcasts (or presence), by the decision log. since: when that right was last said. Warns where the log does not reach back to then, or has lost entries.';

-- +goose StatementBegin
create function realtime._maintain_decisions(retention interval) returns table (created int, dropped int)
  language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  today  date := timezone('utc', now())::date;
  cutoff timestamp := timezone('utc', now()) - retention;
  name   text;
  part   regclass;
begin
  created := 0; dropped := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('rowcast.maintain_decisions', 0)) then
    return next;  -- another server is at it
    return;
  end if;
  delete from realtime.decisions_default d where d.at < cutoff at time zone 'utc';
  for i in -1 .. 3 loop
    name := 'decisions_' || to_char(today + i, 'YYYY_MM_DD');
    continue when to_regclass('realtime.' || name) is not null;
    begin
      execute format('create table realtime.%I partition of realtime.decisions for values from (%L) to (%L)', name,
                     (today + i)::timestamp at time zone 'utc', (today + i + 1)::timestamp at time zone 'utc');
      execute format('alter table realtime.%I enable row level security', name);
      created := created + 1;
    exception when check_violation then null;  -- the default partition has rows of that day already, and keeps them
    end;
  end loop;
  for part in
    select inhrelid from pg_inherits join pg_class on pg_class.oid = inhrelid
     where inhparent = 'realtime.decisions'::regclass and relname ~ '^decisions_\d{4}_\d{2}_\d{2}$'
       and to_date(right(relname, 10), 'YYYY_MM_DD') + 1 <= cutoff
  loop
    execute format('drop table %s', part);
    dropped := dropped + 1;
  end loop;
  return next;
end $$;
-- +goose StatementEnd
comment on function realtime._maintain_decisions(interval) is 'Makes the partitions of the decision log from yesterday to three days ahead, and drops those older than the retention.';

revoke execute on function realtime._node_gone(), realtime._maintain_decisions(interval), realtime.who_could(text, timestamptz, text, text) from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime._maintain_decisions(interval);
drop function realtime.who_could(text, timestamptz, text, text);
drop trigger decisions on realtime._nodes;
drop function realtime._node_gone();
drop table realtime.decisions;
