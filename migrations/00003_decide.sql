-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- The one place where rights are found out: by doing, as the role in question, what the policies are about.

-- +goose StatementBegin
create function realtime._role_refusal(role name, bypass_roles text[]) returns text
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare asked record;
begin
  select oid, rolsuper, rolbypassrls into asked from pg_roles where rolname = role;
  return case
    when role is null then 'there is no role'
    when asked.oid is null then format('role %I does not exist', role)   -- "none" too: it would mean the server itself
    when asked.rolsuper then format('role %I is a superuser', role)
    when asked.rolbypassrls and (role = any (bypass_roles)) is not true then format('role %I bypasses row level security and is not in BYPASS_ROLES', role)
  end;
end $$;
-- +goose StatementEnd
comment on function realtime._role_refusal(name, text[]) is 'Why nothing is decided for this role, whatever it is about; null if it may be put on.';

-- +goose StatementBegin
create function realtime._refusal(role name, bypass_roles text[]) returns text
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare messages record;
begin
  select relrowsecurity, relforcerowsecurity, relowner into messages from pg_class where oid = 'realtime.messages'::regclass;
  return coalesce(realtime._role_refusal(role, bypass_roles), case
    when not messages.relrowsecurity then 'row level security is switched off on realtime.messages'
    when messages.relforcerowsecurity then 'FORCE ROW LEVEL SECURITY on realtime.messages blinds the server'
    when pg_has_role(role, messages.relowner, 'usage') then format('role %I owns realtime.messages, directly or through a role it inherits', role)
  end);
end $$;
-- +goose StatementEnd
comment on function realtime._refusal(name, text[]) is 'Why this role is refused before any policy is asked; null if it may be asked for.';

-- Written so that Postgres makes it part of the expression that calls it, which costs half.
create function realtime._become(topic text, role text, claims text, headers text) returns text
  language sql
  return concat(
    set_config('realtime.topic', topic, true),
    set_config('request.jwt.claims', claims, true),
    set_config('request.jwt.claim.sub', coalesce(claims::jsonb ->> 'sub', ''), true),
    set_config('request.jwt.claim.role', role, true),
    set_config('request.headers', headers, true),
    set_config('search_path', null, true),  -- the session's default: where policies' functions find what they name
    set_config('role', role, true));  -- last: from here on we are the user and may call only what the user may
comment on function realtime._become(text, text, text, text) is
  'Puts on a user''s role, claims and search_path (the default of the session) until the enclosing block ends. What is said until then is to be written with its schemas, operators too.';

-- Where to put an instant that the answer depends on? Not into a setting: what a policy sets is undone with the probe. An
-- error outlives it, and this one is no user's to catch: WHEN OTHERS leaves assert_failure alone.
-- +goose StatementBegin
create function realtime.valid_until(at timestamptz) returns boolean
  language plpgsql stable strict parallel restricted set search_path = pg_catalog, pg_temp as $$
declare known text := nullif(current_setting('realtime.until', true), '');  -- microseconds; null: nobody decides
begin
  if at <= statement_timestamp() then return false; end if;
  if known is not null and extract(epoch from at) * 1000000 < known::numeric then
    raise exception using errcode = 'assert_failure', detail = trunc(extract(epoch from at) * 1000000)::text,
      message = format('the decision is good until %s', at);
  end if;
  return true;
end $$;
-- +goose StatementEnd
comment on function realtime.valid_until(timestamptz) is
  'For use in policies: true while the instant is in the future; sessions whose rights depend on it are decided again when it comes.';

-- What runs as the user, from _become on, is written with its schemas: under his search_path a name may be anybody's.
-- +goose StatementBegin
create function realtime._decide(topics text[], extensions text[], roles text[], claims text[], headers text[], bypass_roles text[])
  returns table (request int, receive boolean, send boolean, code text, reason text, valid_for double precision, snapshot text)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  probe   uuid := gen_random_uuid();
  mark    uuid;               -- the id with which a row is tried to be put in, to fail
  timer   interval := current_setting('statement_timeout')::interval;
  -- Before the timer fires, not when: a policy that swallows it may be back in that very moment.
  late    timestamptz := case when timer > interval '0' then statement_timestamp() + 0.9 * timer else 'infinity' end;
  refusal text;
  vetted  text;               -- the role that refusal is about
  meddled boolean;            -- users' triggers may make another row of the probe, or rules send it past the policies
  plans   text;               -- plan_cache_mode of the probes
  step    text;               -- both, send, receive: what is being asked
  plain   boolean;            -- what was asked of both sides was a policy's plain no
  until   numeric;            -- the earliest instant that valid_until() has told of, in microseconds
  told    numeric;
  passes  int;                -- because of such instants
  worn    text;               -- of no use: an assignment costs less than PERFORM
  seen    boolean;
  kept    boolean;
  passed  boolean;            -- the policies let the probe through
  sends   text;               -- why not
  state text; message text; detail text; context text; source_schema text; source_constraint text; source_column text;
  depth   int;                -- how many lines of context what fails in here has
begin
  get diagnostics context = pg_context;
  depth := cardinality(string_to_array(context, E'\n')) + 1;
  -- Taken before the first probe: what this snapshot does not see, the answers may not have seen either.
  snapshot := pg_current_snapshot()::text;
  with recursive part(oid) as (
    select 'realtime.messages'::regclass::oid
    union all select inhrelid from part join pg_inherits on inhparent = part.oid)
  select exists (select from pg_trigger
                  where tgrelid = any (array(select oid from part)) and tgtype::int & 7 = 7 and not tgisinternal and tgenabled <> 'D')  -- FOR EACH ROW, BEFORE, INSERT
         or exists (select from pg_rewrite where ev_class = 'realtime.messages'::regclass),
         -- A row without an id dies before Postgres has read and planned our CHECK, which it does for each row, and which
         -- costs a quarter of a decision. Unless somebody could tell: a policy that looks at the id or at a whole row (varattno
         -- 0: no dependency is recorded of it), a column that is made of others, or a CHECK or NOT NULL of others, which is to have its say.
         case when exists (
             select from pg_policy p
              where polrelid = 'realtime.messages'::regclass and (strpos(concat(polqual, polwithcheck), ':varattno 0 ') > 0 or exists (
                select from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid and refclassid = 'pg_class'::regclass and refobjid = polrelid
                   and refobjsubid = (select attnum from pg_attribute where attrelid = 'realtime.messages'::regclass and attname = 'id'))))
           or exists (select from pg_constraint
                       where conrelid = any (array(select oid from part)) and contype = 'c' and coninhcount = 0 and conname not in ('messages_probe', 'messages_payload_exclusive'))
           or exists (select from pg_attribute
                       where attrelid = any (array(select oid from part))
                         and (attgenerated <> '' or attnotnull and attnum > 0 and attname not in ('topic', 'extension', 'updated_at', 'inserted_at', 'id')))
           then probe end
    into meddled, mark;
  if meddled then mark := probe; end if;  -- the CHECK compares the whole row

  -- What an IMMUTABLE function says is kept in the plan, also where it is not so immutable that it reads no claims and no
  -- tables: one user's answer would be everybody's. So where policies call one, each probe is planned anew.
  select case when exists (
      select from pg_proc f join pg_language l on l.oid = prolang
       where provolatile = 'i' and f.oid >= 16384 and lanname not in ('c', 'internal') and f.oid = any (array(
         select refobjid from pg_policy p join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
          where polrelid = 'realtime.messages'::regclass and refclassid = 'pg_proc'::regclass
         union all select objid from realtime._dependencies d where d.classid = 'pg_proc'::regclass)))
    then 'force_custom_plan' else current_setting('plan_cache_mode') end into plans;

  for i in 1 .. cardinality(topics) loop
    exit when i > 1 and clock_timestamp() > late;  -- see query_canceled below: a policy's function has swallowed it
    request := i; receive := false; send := false; code := null; reason := null; valid_for := null;

    if i = 1 or vetted is distinct from roles[i] then
      vetted := roles[i];
      refusal := realtime._refusal(vetted::name, bypass_roles);
    end if;
    if refusal is not null then
      code := '42501'; reason := refusal;
      return next;
      continue;
    end if;

    -- An INSERT with RETURNING is held to the INSERT and the SELECT policies: if it passes, both rights are there. If not,
    -- the INSERT alone tells whether sending is. Where it does not, a row has to be looked for.
    step := case when meddled then 'receive' else 'both' end;
    plain := false; sends := null; until := 'infinity'; passes := 0;
    loop
      -- The block ends in an error, always: role, settings, rows, and whatever a policy's function did to any of them, are
      -- then back as they were before the next question is asked. Only plpgsql variables outlive it.
      seen := null;
      begin
        if (step <> 'both' or passes > 0) and clock_timestamp() > late then
          raise query_canceled using message = 'the policies have used up statement_timeout';
        end if;
        if step = 'receive' then
          -- A row of this topic, put there as owner, looked for as the user.
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
          worn := concat(set_config('plan_cache_mode', plans, true), set_config('realtime.until', until::text, true), realtime._become(topics[i], roles[i], claims[i], headers[i]));
          select exists (select from realtime.messages m where m.id operator(pg_catalog.=) probe and m.inserted_at operator(pg_catalog.=) '0001-01-01') into seen;
          raise exception using errcode = 'RB001';
        end if;
        -- An INSERT that passes the policies dies for want of an id, or on our own CHECK. Nothing is written, no xid is taken.
        worn := concat(set_config('plan_cache_mode', plans, true), set_config('realtime.probe', probe || ' ' || extensions[i] || ' ' || topics[i], true),
                       set_config('realtime.until', until::text, true), realtime._become(topics[i], roles[i], claims[i], headers[i]));
        if step operator(pg_catalog.=) 'both' then  -- the columns that are looked at in the row, above
          insert into realtime.messages (id, topic, extension) values (mark, topics[i], extensions[i]) returning id operator(pg_catalog.=) probe and inserted_at is not null into kept;
        else
          insert into realtime.messages (id, topic, extension) values (mark, topics[i], extensions[i]);
        end if;
        raise exception using errcode = 'RB001',
          message = case when found then 'a trigger or a policy changes the probe, which was stored' else 'a trigger on realtime.messages keeps the probe row out' end;
      exception
        -- The timer fires once a statement: the next slow policy would run without one. And whoever waits for a lock keeps
        -- the others waiting.
        when query_canceled or lock_not_available then
          code := sqlstate; receive := null; send := null;
          reason := case step when 'both' then 'receive or send' else step end || ': ' || sqlerrm;
          return next;
          return;
        when assert_failure or others then
          get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail, context = pg_exception_context,
                                  source_schema = schema_name, source_constraint = constraint_name, source_column = column_name;
      end;

      if state = 'P0004' and split_part(context, E'\n', 1) like '%valid_until(timestamp with time zone)%' then
        told := substring(detail from '^\d{1,30}$')::numeric;
        if told < until then  -- each is earlier than the last, but there may be very many
          until := told; passes := passes + 1;
          continue when passes <= 20;
          state := '54000'; message := 'valid_until() is asked about too many instants';
        end if;
      end if;
      -- The same error out of a policy's function, by another INSERT or by hand, says nothing about this row: the INSERT
      -- above must be the innermost thing that failed. A function can have its context read as it likes, but not be without one.
      passed := split_part(context, E'\n', 1) like '%insert into realtime.messages (id, topic, extension)%'
                and cardinality(string_to_array(context, E'\n')) = depth;
      plain  := plain or step = 'both' and passed and state = '42501' and message like 'new row violates row-level security policy%';
      passed := passed and source_schema = 'realtime' and case when mark is null then state = '23502' and source_column = 'id'
                                                               else state = '23514' and source_constraint = 'messages_probe' end;

      if step = 'both' then
        receive := passed; send := passed;
        exit when passed;
        step := 'send';
      elsif step = 'send' then
        send := passed;
        if not passed then
          sends := 'send: ' || message;
          if state <> '42501' then code := coalesce(code, state); end if;
        elsif plain then
          reason := 'receive: no policy lets this role see the topic';
        end if;
        exit when meddled or passed and plain;
        step := 'receive';
      else
        receive := coalesce(seen, false);
        if seen is null then
          code := state; reason := 'receive: ' || message;
        elsif not seen then
          reason := 'receive: no policy lets this role see the topic';
        end if;
        exit when not meddled;
        step := 'send';
      end if;
    end loop;
    reason := nullif(concat_ws('; ', reason, sends), '');
    if until < 'infinity' then
      valid_for := until / 1000000 - extract(epoch from statement_timestamp());
    end if;
    return next;
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime._decide(text[], text[], text[], text[], text[], text[]) is
  'Asks the policies on realtime.messages, as the roles in question, one request per array position. code null: answered; an SQLSTATE: refused because of it; receive and send null with 57014 or 55P03: timed out. Requests at the end without a row were not asked. valid_for: seconds from the start of the statement to the first instant that the answer depends on by valid_until(); null: none. snapshot is what all answers have seen at least.';

-- +goose StatementBegin
create function realtime.can(action text, topic text, extension text default 'broadcast', claims jsonb default null, role text default null)
  returns boolean language plpgsql set search_path = pg_catalog, pg_temp as $$
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
  realtime._role_refusal(name, text[]),
  realtime._refusal(name, text[]),
  realtime._become(text, text, text, text),
  realtime._decide(text[], text[], text[], text[], text[], text[]),
  realtime.can(text, text, text, jsonb, text)
  from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime.can(text, text, text, jsonb, text);
drop function realtime._decide(text[], text[], text[], text[], text[], text[]);
drop function realtime.valid_until(timestamptz);
drop function realtime._become(text, text, text, text);
drop function realtime._refusal(name, text[]);
drop function realtime._role_refusal(name, text[]);
