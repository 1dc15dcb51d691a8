-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- What a client asks for that was away: of one room, what it had not been told. The columns are null in entries from
-- before; those are not replayed.
alter table realtime._journal
  add column topic   text,
  add column private boolean,
  add column seen    pg_snapshot;
-- Apart from the above, which would have given all entries that there are this statement's.
alter table realtime._journal alter column seen set default pg_current_snapshot();
comment on column realtime._journal.seq is 'In the order of sending: a message whose sender could see another has the higher one.';
comment on column realtime._journal.topic is 'Of the message; null where nobody could join it.';
comment on column realtime._journal.seen is 'What the statement saw that sent the message. All of that was delivered before it.';

create unique index on realtime._journal (seq);
create index on realtime._journal (topic, xid, seq) where private;
create index on realtime._journal (topic, inserted_at, message_id) where private;
-- It was made for replay, which reads the journal: there it reads nothing of other rooms.
drop index realtime.messages_inserted_at_topic_index;

-- As in 00002, with the room. An index takes no entry of any length, and the insert must not fail for that.
-- +goose StatementBegin
create or replace function realtime._broadcast() returns trigger
  language plpgsql security definer set search_path = '' as $$
declare entry realtime._journal;
begin
  insert into realtime._journal (xid, message_id, inserted_at, topic, private)
    values (pg_current_xact_id(), new.id, new.inserted_at, case when octet_length(new.topic) <= 246 then new.topic end, coalesce(new.private, false))
    returning * into entry;
  perform realtime._say('m ' || entry.xid || ' ' || entry.seq || ' ' || entry.token);
  return null;
end $$;
-- +goose StatementEnd

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- +goose StatementBegin
create or replace function realtime._broadcast() returns trigger
  language plpgsql security definer set search_path = '' as $$
declare entry realtime._journal;
begin
  insert into realtime._journal (xid, message_id, inserted_at)
    values (pg_current_xact_id(), new.id, new.inserted_at) returning * into entry;
  perform realtime._say('m ' || entry.xid || ' ' || entry.seq || ' ' || entry.token);
  return null;
end $$;
-- +goose StatementEnd
create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
  where extension = 'broadcast' and private is true;
comment on column realtime._journal.seq is null;
drop index realtime._journal_seq_idx;
alter table realtime._journal drop column seen, drop column private, drop column topic;
