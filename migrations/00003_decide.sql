-- +goose Up
set local lock_timeout = '5s';
-- The one place where rights are found out: by doing, as the role in question, what the policies are about.

-- +goose StatementBegin
create function realtime._refusal(role name, bypass_roles text[]) returns text
  language plpgsql stable as $$
declare messages record; asked record;
begin
  select relrowsecurity, relforcerowsecurity, relowner into messages from pg_class where oid = 'realtime.messages'::regclass;
  select oid, rolsuper, rolbypassrls into asked from pg_roles where rolname = role;
  return case
    when role is null then 'there is no role'
    when asked.oid is null then format('role %I does not exist', role)   -- "none" too: it would mean the server itself
    when not messages.relrowsecurity then 'row level security is switched off on realtime.messages'
    when messages.relforcerowsecurity then 'FORCE ROW LEVEL SECURITY on realtime.messages blinds the server'
    when asked.rolsuper then format('role %I is a superuser', role)
    when pg_has_role(asked.oid, messages.relowner, 'usage') then format('role %I owns realtime.messages, directly or through a role it inherits', role)
    when asked.rolbypassrls and (role = any (bypass_roles)) is not true then format('role %I bypasses row level security and is not in BYPASS_ROLES', role)
  end;
end $$;
-- +goose StatementEnd
comment on function realtime._refusal(name, text[]) is 'Why this role is refused before any policy is asked; null if it may be asked for.';

-- +goose StatementBegin
create function realtime._become(topic text, role text, claims text, headers text) returns void
  language plpgsql as $$
begin
  perform set_config('realtime.topic', topic, true),
          set_config('request.jwt.claims', claims, true),
          set_config('request.jwt.claim.sub', coalesce(claims::jsonb ->> 'sub', ''), true),
          set_config('request.jwt.claim.role', role, true),
          set_config('request.headers', headers, true);
  perform set_config('role', role, true);  -- last: from here on we are the user and may call only what the user may
end $$;
-- +goose StatementEnd
comment on function realtime._become(text, text, text, text) is 'Puts on a user''s role and claims until the enclosing block ends.';

-- Not SET search_path: the policies' own functions must find what they find in the server's session.
-- +goose StatementBegin
create function realtime._decide(topics text[], extensions text[], roles text[], claims text[], headers text[], bypass_roles text[])
  returns table (request int, receive boolean, send boolean, code text, reason text, snapshot text)
  language plpgsql as $$
#variable_conflict use_variable
declare
  probe   uuid := gen_random_uuid();
  timer   interval := current_setting('statement_timeout')::interval;
  late    timestamptz := case when timer > interval '0' then statement_timestamp() + timer else 'infinity' end;
  seen    boolean;
  refusal text;
  vetted  text;               -- the role that refusal is about
  kept    boolean;
  source_schema text; source_constraint text; source_context text;
begin
  -- Taken before the first probe: what this snapshot does not see, the answers may not have seen either.
  snapshot := pg_current_snapshot()::text;
  for i in 1 .. cardinality(topics) loop
    exit when i > 1 and clock_timestamp() > late;  -- see query_canceled below: a policy's function has swallowed it
    request := i; receive := false; send := false; code := null; reason := null;

    if i = 1 or vetted is distinct from roles[i] then
      vetted := roles[i];
      refusal := realtime._refusal(vetted::name, bypass_roles);
    end if;
    if refusal is not null then
      code := '42501'; reason := refusal;
      return next;
      continue;
    end if;

    -- Each block below ends in an error, always: role, settings, rows, and whatever a policy's function did to any of
    -- them, are then back as they were before the next question is asked. Only plpgsql variables outlive it.

    -- May receive: a row of this topic, put there as owner, looked for as the user.
    seen := null;
    begin
      insert into realtime.messages as m (id, topic, extension, inserted_at, updated_at)
        values (probe, topics[i], extensions[i], '0001-01-01', '0001-01-01')
        returning m.topic = topics[i] and m.extension = extensions[i] into kept;
      if not kept then  -- by a user's trigger: right for what is stored, but it is not what was asked
        update realtime.messages m set topic = topics[i], extension = extensions[i] where m.id = probe and m.inserted_at = '0001-01-01'
          returning m.topic = topics[i] and m.extension = extensions[i] into kept;
      end if;
      if kept is not true then
        raise exception using errcode = 'RB001', message = 'a trigger on realtime.messages keeps the probe row out';
      end if;
      perform realtime._become(topics[i], roles[i], claims[i], headers[i]);
      select exists (select from realtime.messages m where m.id = probe and m.inserted_at = '0001-01-01') into seen;
      raise exception using errcode = 'RB001';
    exception
      -- The timer fires once a statement: the next slow policy would run without one. And whoever waits for a lock keeps
      -- the others waiting.
      when query_canceled or lock_not_available then
        code := sqlstate; reason := 'receive: ' || sqlerrm; receive := null; send := null;
        return next;
        return;
      when assert_failure or others then
        receive := coalesce(seen, false);
        if seen is null then
          code := sqlstate; reason := 'receive: ' || sqlerrm;
        elsif not seen then
          reason := 'receive: no policy lets this role see the topic';
        end if;
    end;

    -- May send: an INSERT that passes the policies and then dies on our own CHECK. Nothing is written, no xid is taken.
    begin
      if clock_timestamp() > late then
        raise query_canceled using message = 'the policies have used up statement_timeout';
      end if;
      perform set_config('realtime.probe', probe || ' ' || extensions[i] || ' ' || topics[i], true);
      perform realtime._become(topics[i], roles[i], claims[i], headers[i]);
      insert into realtime.messages (id, topic, extension) values (probe, topics[i], extensions[i]);
      raise exception using errcode = 'RB001',
        message = case when found then 'a trigger or a policy changes the probe, which was stored' else 'a trigger on realtime.messages keeps the probe row out' end;
    exception
      when query_canceled or lock_not_available then
        code := sqlstate; reason := 'send: ' || sqlerrm; receive := null; send := null;
        return next;
        return;
      when assert_failure or others then
        get stacked diagnostics source_schema = schema_name, source_constraint = constraint_name, source_context = pg_exception_context;
        -- The same error out of a policy's function, by another INSERT or by hand, says nothing about this row: the
        -- INSERT above must be the innermost thing that failed.
        send := sqlstate = '23514' and source_schema = 'realtime' and source_constraint = 'messages_probe'
                and split_part(source_context, E'\n', 1) like '%insert into realtime.messages (id, topic, extension)%'
                and split_part(source_context, E'\n', 2) like '%\_decide(%';
        if not send and sqlstate <> '42501' then code := coalesce(code, sqlstate); end if;
        if not send then reason := concat_ws('; ', reason, 'send: ' || sqlerrm); end if;
    end;
    return next;
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime._decide(text[], text[], text[], text[], text[], text[]) is
  'Asks the policies on realtime.messages, as the roles in question, one request per array position. code null: answered; an SQLSTATE: refused because of it; receive and send null with 57014 or 55P03: timed out. Requests at the end without a row were not asked. snapshot is what all answers have seen at least.';

-- +goose StatementBegin
create function realtime.can(action text, topic text, extension text default 'broadcast', claims jsonb default null, role text default null)
  returns boolean language plpgsql as $$
declare
  asked_claims jsonb := coalesce(claims, nullif(current_setting('request.jwt.claims', true), '')::jsonb, '{}');
  asked_role   text  := coalesce(role, asked_claims ->> 'role');
  bypass       text[] := (select value from realtime._settings where name = 'bypass_roles');
  answer       record;
begin
  if action is null or action not in ('receive', 'send') then
    raise exception 'can(): action is %, expected receive or send', coalesce(quote_literal(action), 'null') using errcode = '22023';
  end if;
  if topic is null or extension is null then
    raise exception 'can(): topic and extension must be given' using errcode = '22004';
  end if;
  if asked_role is null then
    raise exception 'can(): no role: give one, or claims that name one' using errcode = '22023';
  end if;
  if current_setting('transaction_read_only')::boolean then
    raise exception 'can() needs a read-write transaction' using errcode = '25006';
  end if;
  select * into answer from realtime._decide(array[topic], array[extension], array[asked_role], array[asked_claims::text], array['{}'], bypass);
  if answer.code in ('57014', '55P03') then
    raise exception 'can(): %', answer.reason using errcode = answer.code;
  elsif answer.code is not null then
    raise notice 'can(): refused: % (%)', answer.reason, answer.code;
  end if;
  return case action when 'receive' then answer.receive else answer.send end;
end $$;
-- +goose StatementEnd
comment on function realtime.can(text, text, text, jsonb, text) is
  'The server''s own decision: may these claims receive or send on this topic? claims null: the current request.jwt.claims; role null: the claims'' role. Needs a read-write transaction; leaves nothing behind.';

revoke execute on function
  realtime._refusal(name, text[]),
  realtime._become(text, text, text, text),
  realtime._decide(text[], text[], text[], text[], text[], text[]),
  realtime.can(text, text, text, jsonb, text)
  from public;

-- +goose Down
set local lock_timeout = '5s';
drop function realtime.can(text, text, text, jsonb, text);
drop function realtime._decide(text[], text[], text[], text[], text[], text[]);
drop function realtime._become(text, text, text, text);
drop function realtime._refusal(name, text[]);
