-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- Both run with the caller's rights: whoever calls needs INSERT on realtime.messages and a policy that lets him. A
-- failure is an error in the caller's transaction; what is not delivered was never committed. Policies, and others' triggers,
-- find names as they do when the caller inserts a row himself: under his search_path.

-- Callers may not read the settings themselves.
create function realtime._max_payload_bytes() returns bigint
  language sql stable security definer set search_path = ''
  return (select value[1]::bigint from realtime._settings where name = 'max_payload_bytes');
comment on function realtime._max_payload_bytes() is 'The server''s MAX_PAYLOAD_BYTES; null: no limit.';

-- +goose StatementBegin
create function realtime._send(payload jsonb, binary_payload bytea, event text, topic text, private boolean, path text) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  message_id  uuid := gen_random_uuid();
  outer_topic text := coalesce(current_setting('realtime.topic', true), '');
  most        bigint;
begin
  if payload is null and binary_payload is null then
    raise exception 'send(): payload must not be null' using errcode = '22004';
  elsif coalesce(event, '') = '' or coalesce(topic, '') = '' then
    raise exception 'send(): event and topic must not be empty' using errcode = '22004';
  elsif octet_length(event) > 255 then  -- the binary frame has one byte for its length
    raise exception 'send(): event has % bytes, at most 255 fit', octet_length(event) using errcode = '22001';
  elsif octet_length(topic) > 246 then  -- 255 less the prefix "realtime:"
    raise exception 'send(): topic has % bytes, at most 246 fit', octet_length(topic) using errcode = '22001';
  end if;
  if jsonb_typeof(payload) = 'object' and not payload ? 'id' then
    payload := payload || jsonb_build_object('id', message_id);
  end if;
  if pg_column_size(payload) > 1000 or octet_length(binary_payload) > 1000 then  -- the limit is never so small
    most := realtime._max_payload_bytes();
    if octet_length(payload::text) > most or octet_length(binary_payload) > most then
      raise exception 'send(): payload has % bytes, the server delivers at most %', coalesce(octet_length(payload::text), octet_length(binary_payload)), most
        using errcode = '22001';
    end if;
  end if;
  private := coalesce(private, true);
  perform set_config('realtime.topic', topic, true), set_config('search_path', path, true);
  -- From here on every name is written with its schema.
  insert into realtime.messages (id, payload, binary_payload, event, topic, private, extension)
    values (message_id, payload, binary_payload, event, topic, private, 'broadcast');
  perform pg_catalog.set_config('realtime.topic', outer_topic, true);
end $$;
-- +goose StatementEnd
comment on function realtime._send(jsonb, bytea, text, text, boolean, text) is 'What send() and send_binary() have in common. path: the search_path of the caller.';

create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
  language sql return realtime._send(payload, null, event, topic, private, current_setting('search_path'));
comment on function realtime.send(jsonb, text, text, boolean) is
  'Broadcasts a JSON payload to a channel, if and when the calling transaction commits. An object without an id is given the message''s. Event at most 255 bytes, topic at most 246.';

create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
  language sql return realtime._send(null, payload, event, topic, private, current_setting('search_path'));
comment on function realtime.send_binary(bytea, text, text, boolean) is
  'Broadcasts raw bytes to a channel, if and when the calling transaction commits. Only clients on wire version 2.0.0 can receive them.';

-- For a row trigger of the user's: new and old are the trigger's. The sentences of its two refusals are those of Supabase
-- Realtime; what send() refuses keeps its own SQLSTATE. It has no search_path of its own, as send() takes the caller's from it: instead
-- every name in it is written with its schema.
-- +goose StatementBegin
create function realtime.broadcast_changes(
  topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record, level text default 'ROW')
  returns void language plpgsql as $$
begin
  if level operator(pg_catalog.=) 'STATEMENT' then
    raise exception 'Failed to process the row: function can only be triggered for each row, not for each statement';
  elsif operation is null or operation operator(pg_catalog.<>) all (array['INSERT', 'UPDATE', 'DELETE']) then
    raise exception 'Failed to process the row: Unexpected operation type: %', operation;
  end if;
  perform realtime.send(
    pg_catalog.jsonb_build_object('schema', table_schema, 'table', table_name, 'operation', operation, 'record', pg_catalog.to_jsonb(new), 'old_record', pg_catalog.to_jsonb(old)),
    event_name, topic_name);
end $$;
-- +goose StatementEnd
comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
  'Broadcasts a row change to a private channel, for use in a row trigger: {schema, table, operation, record, old_record, id}. Needs what send() needs: a SECURITY DEFINER trigger function sends by its owner''s rights.';

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime.broadcast_changes(text, text, text, text, text, record, record, text);
drop function realtime.send_binary(bytea, text, text, boolean);
drop function realtime.send(jsonb, text, text, boolean);
drop function realtime._send(jsonb, bytea, text, text, boolean, text);
drop function realtime._max_payload_bytes();
