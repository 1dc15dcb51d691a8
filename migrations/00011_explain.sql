-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- Why a decision is what it is, for people. Nothing here decides: _decide does, and where what is listed here leads to
-- another verdict, that is said.

create type realtime._finding as (
  subject    text,
  action     text,
  extension  text,
  name       text,
  value      text,
  sentence   text,
  kind       text,
  roles      text,
  expression text
);
comment on type realtime._finding is 'One row of explain().';

-- pg_get_expr names what its search_path does not find by schema, so that the texts mean the same under every other.
-- +goose StatementBegin
create function realtime._policies() returns table (name name, command "char", permissive boolean, role_ids oid[], role_names text,
    using_text text, check_text text, readable oid[], callable oid[])
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select polname, polcmd, polpermissive, polroles,
         (select string_agg(case o when 0 then 'public' else o::regrole::text end, ', ') from unnest(polroles) as o),
         pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid),
         array(select distinct refobjid from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                  and d.refclassid = 'pg_class'::regclass and d.refobjid <> polrelid),
         array(select distinct refobjid from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                  and d.refclassid = 'pg_proc'::regclass)
    from pg_policy p where polrelid = 'realtime.messages'::regclass
   -- As Postgres goes through them: permissive ones from the last name to the first until one is true, restrictive ones by name.
   order by polpermissive desc, row_number() over (partition by polpermissive order by polname) * case when polpermissive then -1 else 1 end;
end;
-- +goose StatementEnd
comment on function realtime._policies() is 'The policies on realtime.messages in the order in which Postgres asks them, with the tables and functions that they name.';

-- +goose StatementBegin
create function realtime._explain_role(asked name, bypass_roles text[]) returns setof realtime._finding
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  may_set  text := case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end;
  refusal  text := realtime._refusal(asked, bypass_roles);
  messages record;
  who      record;
  owns     boolean;
  allowed  text[] := (select s.value from realtime._settings s where s.name = 'allowed_roles');
begin
  select relowner, relowner::regrole as owner, relrowsecurity, relforcerowsecurity into messages from pg_class where oid = 'realtime.messages'::regclass;
  select oid, rolsuper, rolbypassrls into who from pg_roles where rolname = asked;
  owns := pg_has_role(who.oid, messages.relowner, 'usage');
  return query values
    ('role', null, null, 'exists', (who.oid is not null)::text, format('role %I %s', asked, case when who.oid is null then 'does not exist' else 'exists' end), null, null, null),
    ('role', null, null, 'superuser', who.rolsuper::text, case when who.rolsuper then 'policies do not bind superusers' else 'no superuser' end, null, null, null),
    ('role', null, null, 'bypassrls', who.rolbypassrls::text, case when not who.rolbypassrls then 'is bound by policies'
       when asked = any (bypass_roles) then 'policies are not asked: BYPASS_ROLES lets this role bypass them' else 'bypasses policies without being in BYPASS_ROLES' end, null, null, null),
    ('ownership', null, null, 'realtime.messages', owns::text,
       format('owned by %s%s', messages.owner, case when owns then format(', which %I is or inherits', asked) else '' end), null, null, null),
    ('rls', null, null, 'enabled', messages.relrowsecurity::text,
       case when not messages.relrowsecurity then 'alter table realtime.messages enable row level security;' else 'row level security is on' end, null, null, null),
    ('rls', null, null, 'forced', messages.relforcerowsecurity::text,
       case when messages.relforcerowsecurity then 'alter table realtime.messages no force row level security;' else 'the server can place its probes' end, null, null, null),
    ('role', null, null, 'refused', (refusal is not null)::text, coalesce(refusal, 'nothing refuses this role before policies are asked'),
       case when refusal is not null then 'refuses' end, null, null);
  if who.oid is not null then
    return query select 'role', null, null, format('%s may become %s', messages.owner, asked::text), v::text,
      case when v then 'the server can ask as this role' else format('the server, %1$s, may not become %2$I: grant %2$I to %1$s;', messages.owner, asked) end, case when not v then 'refuses' end, null, null
      from pg_has_role(messages.relowner, who.oid, may_set) as v;
    return query select 'grant', x.action, null, x.name, x.held::text,
      case when x.held then 'is granted' else format('%I has no %s: %s', asked, x.name, x.mend) end, case when not x.held then 'refuses' end, null, null
      from (values
        (null, 'USAGE on schema realtime', has_schema_privilege(who.oid, 'realtime', 'usage'), format('grant usage on schema realtime to %I;', asked)),
        ('receive', 'SELECT on realtime.messages',
          has_column_privilege(who.oid, 'realtime.messages', 'id', 'select') and has_column_privilege(who.oid, 'realtime.messages', 'inserted_at', 'select'),
          format('grant select on realtime.messages to %I;', asked)),
        ('send', 'INSERT on realtime.messages',
          (select bool_and(has_column_privilege(who.oid, 'realtime.messages', c, 'insert')) from unnest(array['id', 'topic', 'extension']) as c),
          format('grant insert on realtime.messages to %I;', asked))) as x (action, name, held, mend);
  end if;
  return query select 'role', null, null, 'allowed', v::text,
    case when v then 'is in ALLOWED_ROLES' else format('role %I is not in ALLOWED_ROLES of the server, which refuses every token that names it', asked) end,
    case when not v then 'refuses' end, null, null
    from (select asked = any (allowed)) as a (v);
  if current_setting('row_security') = 'off' and who.rolbypassrls is not true then
    return query values ('rls', null, null, 'row_security', 'off', 'row_security is off in this session: set row_security = on;', 'refuses', null, null);
  end if;
  return query select 'trigger', 'send', null, tgname::text, null, 'runs before the policies see the row, and may change or refuse it', null, null, pg_get_triggerdef(oid)
    from pg_trigger where tgrelid = 'realtime.messages'::regclass and not tgisinternal and tgtype & 2 = 2 and tgtype & 4 = 4 and tgenabled in ('O', 'A');
end $$;
-- +goose StatementEnd
comment on function realtime._explain_role(name, text[]) is 'What explain() tells before policies: the role, row level security, ownership, grants. kind refuses: enough for a no by itself.';

-- What a policy says of some rows. The text is parsed by whoever calls and executed by the role, as with policies: it needs
-- no right to the schemas that its policies name. A function keeps the two apart; it is gone before anybody sees it.
-- +goose StatementBegin
create function realtime._evaluate(expression text, probes realtime.messages[], asked name, claims text, late timestamptz, out says text[], out millis int[])
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  made     text := format('realtime._policy_%s(realtime.messages[])', pg_backend_pid());
  called   text := format('select realtime._policy_%s($1)', pg_backend_pid());
  listed   text := format('realtime._policy_of_%s(realtime.messages[])', pg_backend_pid());  -- the same, for the planner to look into
  planned  text := format('explain (verbose, format json) select * from realtime._policy_of_%s(null)', pg_backend_pid());
  one      realtime.messages;
  rows     realtime.messages[];
  began    timestamptz;
  answer   boolean;
  answered boolean;
  step     text;  -- row, begin, plan
  plan     json;
  value    text;
  raised   text;
begin
  begin
    execute format('create function %s returns boolean language sql begin atomic select (%s) from unnest($1) as messages; end', made, expression);
    execute format('create function %s returns setof boolean language sql stable begin atomic select (%s) from unnest($1) as messages; end', listed, expression);
    execute format('grant execute on function %s, %s to %I', made, listed, asked);
    foreach one in array probes loop
      began := clock_timestamp();
      rows := array[one];
      step := 'row';
      value := case when began > late then 'unknown 57014: the policies before it have used up statement_timeout' end;
      while value is null loop
        answered := false;
        begin  -- each ends in an error, always: role, settings, rows are then as they were
          perform realtime._become(one.topic, asked, claims, '{}');
          if step operator(pg_catalog.=) 'plan' then
            execute planned into plan;
          else
            execute called into answer using rows;
          end if;
          answered := true;
          raise exception using errcode = 'RB001';
        exception
          when query_canceled or lock_not_available then
            late := '-infinity';  -- the timer fires once a statement: the next slow policy would run without one
            value := format('unknown %s: %s', sqlstate, sqlerrm);
          when assert_failure or others then
            if step = 'row' and answered and answer then
              step := 'plan';  -- what the planner finds to be true of every row makes it forget the other permissive policies
            elsif step = 'row' and answered then
              value := coalesce(answer::text, 'null');
            elsif step = 'row' then
              -- Again without a row: what raises even so, as for want of a grant, does whatever other policies say.
              step := 'begin'; rows := '{}';
              raised := format('%s: %s', sqlstate, left(sqlerrm, 1000));
            elsif step = 'begin' then
              value := case when answered then 'error ' else 'broken ' end || raised;
            else
              value := case when answered and plan -> 0 -> 'Plan' -> 'Output' ->> 0 = 'true' then 'true always' else 'true' end;
            end if;
        end;
      end loop;
      says := says || value;
      millis := millis || (extract(epoch from clock_timestamp() - began) * 1000)::int;
    end loop;
    raise exception using errcode = 'RB001';
  exception when query_canceled or lock_not_available or assert_failure or others then
    if cardinality(says) = cardinality(probes) then
      return;
    end if;
    says := array_fill(format('unknown %s: %s', sqlstate, left(sqlerrm, 1000)), array[cardinality(probes)]);
    millis := array_fill(0, array[cardinality(probes)]);
  end;
end $$;
-- +goose StatementEnd
comment on function realtime._evaluate(text, realtime.messages[], name, text, timestamptz) is
  'true, false or null; true always: of every row; error: raises when it is asked; broken: cannot even be begun, so that nothing is allowed whatever other policies say; unknown: could not be evaluated here.';

-- +goose StatementBegin
create function realtime._explain_value(value text, asked name, readable oid[], callable oid[], millis int) returns text
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  mend text := concat_ws(' ',
    (select string_agg(format('grant select on %s to %I;', t::regclass, asked), ' ') from unnest(readable) as t
      where not has_table_privilege(asked, t, 'select') and not has_any_column_privilege(asked, t, 'select')),
    (select string_agg(format('grant execute on function %s to %I;', f::regprocedure, asked), ' ') from unnest(callable) as f
      where not has_function_privilege(asked, f, 'execute')));
begin
  return case split_part(value, ' ', 1)
    when 'true' then case value when 'true' then 'is true' else 'is true of every row' end
    when 'false' then 'is false'
    when 'null' then 'is null, which counts as false'
    when 'error' then 'raises ' || substr(value, length('error ') + 1)
    when 'broken' then concat_ws(': ', format('cannot be executed (%s), so nothing is allowed whatever other policies say', substr(value, length('broken ') + 1)), nullif(mend, ''))
    else case when value ~ '^unknown (57014|55P03)' then 'has not answered: ' || substr(value, length('unknown 57014: ') + 1)
      else concat_ws(': ', format('could not be evaluated by %I, only by the decision', current_user),
        (select string_agg(distinct format('grant usage on schema %I to %I;', nspname, current_user), ' ') from pg_namespace n
          where not has_schema_privilege(n.oid, 'usage')
            and n.oid in (select relnamespace from pg_class where oid = any (readable) union select pronamespace from pg_proc where oid = any (callable)))) end end
    || case when millis >= 100 then format(' (after %s ms)', millis) else '' end;
end $$;
-- +goose StatementEnd
comment on function realtime._explain_value(text, name, oid[], oid[], int) is 'A sentence for the value of a policy, with the grants that are missing.';

-- +goose StatementBegin
create function realtime._explain_policies(topic text, asked name, claims text, late timestamptz, not_asked text) returns setof realtime._finding
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  who     oid := (select oid from pg_roles where rolname = asked);
  p       record;
  extensions text[] := array['broadcast', 'presence'];
  answer  record;
  one     realtime._finding;
  act     text;
begin
  for p in select * from realtime._policies() loop
    foreach act in array array['receive', 'send'] loop
      one := row('policy', act, null, p.name, null, null, case when p.permissive then 'permissive' else 'restrictive' end, p.role_names,
                   case act when 'receive' then p.using_text else coalesce(p.check_text, p.using_text) end);
      one.sentence := case
        when not_asked is not null then 'not asked: ' || not_asked
        when p.command not in ('*', case act when 'receive' then 'r'::"char" else 'a' end) then
          'does not apply: it is for ' || case p.command when 'r' then 'SELECT' when 'a' then 'INSERT' when 'w' then 'UPDATE' else 'DELETE' end
        when not exists (select from unnest(p.role_ids) as r where r = 0 or pg_has_role(who, r, 'usage')) then format('does not apply: it is for %s', p.role_names)
        when one.expression is null then 'does not count: it has no expression' end;
      if one.sentence is not null then
        return next one;
        continue;
      end if;
      answer := realtime._evaluate(one.expression, array(
        select jsonb_populate_record(null::realtime.messages, jsonb_build_object('id', gen_random_uuid(), 'topic', topic, 'extension', x,
                 'private', false, 'inserted_at', timezone('utc', now()), 'updated_at', timezone('utc', now())))
          from unnest(extensions) as x), asked, claims, late);
      for i in 1 .. cardinality(extensions) loop
        one.extension := extensions[i];
        one.value := answer.says[i];
        one.sentence := realtime._explain_value(one.value, asked, p.readable, p.callable, answer.millis[i]);
        if one.value like 'unknown 57014%' or one.value like 'unknown 55P03%' then
          late := '-infinity';
        end if;
        return next one;
      end loop;
    end loop;
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime._explain_policies(text, name, text, timestamptz, text) is 'Every policy on realtime.messages with its value, for both actions and both extensions.';

-- +goose StatementBegin
create function realtime._explain_verdict(findings realtime._finding[], asked name, action text, extension text, out allowed boolean, out because text)
  language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  permissive  record;
  restrictive record;
begin
  select f.sentence into because from unnest(findings) as f where f.kind = 'refuses' and coalesce(f.action, action) = action limit 1;
  if found then
    allowed := false;
    return;
  elsif exists (select from unnest(findings) as f where f.subject = 'role' and f.name = 'bypassrls' and f.value = 'true') then
    allowed := true; because := format('%I bypasses row level security', asked);
    return;
  end if;
  -- What settles it: of permissive policies the first that is not false. What is true of every row makes Postgres
  -- forget the others before they are begun; what cannot be begun comes before what is reached.
  select split_part(f.value, ' ', 1) as value, format('policy "%s" %s', f.name, f.sentence) as words into permissive
    from unnest(findings) with ordinality as f (subject, action, extension, name, value, sentence, kind, roles, expression, place)
   where f.subject = 'policy' and f.action = action and f.extension = extension and f.kind = 'permissive' and f.value not in ('false', 'null')
   order by f.value = 'true always' desc, f.value like 'broken%' desc, f.place limit 1;
  if not found then
    select 'false' as value, case count(*)
        when 0 then format('no policy for %s applies to role %I: nothing is permitted', case action when 'receive' then 'SELECT' else 'INSERT' end, asked)
        when 1 then format('policy "%s" %s', min(f.name), min(f.sentence))
        else format('none of the policies %s%s is true', string_agg(format('"%s"', f.name), ', ' order by f.nearness) filter (where f.nearness <= 3),
                    ' and ' || nullif(count(*) - 3, least(0, count(*) - 3)) || ' more') end as words into permissive
      -- Of many, those first that hold for the other extension: they are about this topic and this user.
      from (select p.name, p.sentence, row_number() over (order by not exists (
                     select from unnest(findings) as o where o.subject = 'policy' and o.action = p.action and o.name = p.name and o.value like 'true%'), p.place) as nearness
              from unnest(findings) with ordinality as p (subject, action, extension, name, value, sentence, kind, roles, expression, place)
             where p.subject = 'policy' and p.action = action and p.extension = extension and p.kind = 'permissive') as f;
  end if;
  -- And of restrictive ones, any that is not true.
  select split_part(f.value, ' ', 1) as value, format('policy "%s" (restrictive) %s', f.name, f.sentence) as words into restrictive
    from unnest(findings) with ordinality as f (subject, action, extension, name, value, sentence, kind, roles, expression, place)
   where f.subject = 'policy' and f.action = action and f.extension = extension and f.kind = 'restrictive' and f.value not like 'true%'
   order by f.value like 'unknown%', f.place limit 1;
  allowed := case permissive.value when 'true' then true when 'unknown' then null else false end
         and case when restrictive.value is null then true when restrictive.value <> 'unknown' then false end;
  because := case when permissive.value = 'true' then coalesce(restrictive.words, permissive.words)
                  else concat_ws('; ', permissive.words, restrictive.words) end;
  because := regexp_replace(because, ' \(after \d+ ms\)', '', 'g');  -- stays with the policy: two reasons are the same whatever they took
end $$;
-- +goose StatementEnd
comment on function realtime._explain_verdict(realtime._finding[], name, text, text) is 'The verdict that the listed grants and values lead to; null where a value is not known.';

-- +goose StatementBegin
create function realtime._explain_summary(topic text, who text, verdicts realtime._finding[]) returns text
  language sql immutable
begin atomic
  with words as (
    select extension,
           case when r.value is null or s.value is null then 'is not decided'
                when r.value = 'true' and s.value = 'true' then 'may receive and send'
                when r.value = 'true' then 'may receive but not send'
                when s.value = 'true' then 'may send but not receive'
                else 'may neither receive nor send' end as may,
           case when r.sentence = s.sentence then r.sentence
                when r.value = 'true' and s.value <> 'true' then s.sentence
                when s.value = 'true' and r.value <> 'true' then r.sentence
                else format('receive: %s; send: %s', r.sentence, s.sentence) end as why
      from unnest(verdicts) as r join unnest(verdicts) as s using (extension)
     where r.action = 'receive' and s.action = 'send')
  select case when count(distinct (may, why)) = 1 then format('%s %s on %s: %s', who, min(may), topic, min(why))
              else format('%s on %s: %s', who, topic, string_agg(format('%s: %s (%s)', extension, may, why), '; ' order by extension)) end
    from words;
end;
-- +goose StatementEnd
comment on function realtime._explain_summary(text, text, realtime._finding[]) is 'What was decided, in one sentence.';

-- +goose StatementBegin
create function realtime._explain_decisions(topic text, asked name, claims text, bypass_roles text[], barred text, late timestamptz)
  returns setof realtime._finding language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  one    realtime._finding := row('server', null, null, 'decide', null, null, null, null, null);
  answer record;
  ext    text;
begin
  foreach ext in array array['broadcast', 'presence'] loop
    one.extension := ext;
    if barred is not null then
      select false as receive, false as send, null as code, barred as reason, null::double precision as valid_for into answer;
    elsif clock_timestamp() > late then
      select null::boolean as receive, null::boolean as send, null as code, 'not asked: statement_timeout is used up' as reason, null::double precision as valid_for into answer;
    else
      select d.receive, d.send, d.code, d.reason, d.valid_for into answer
        from realtime._decide(array[topic], array[ext], array[asked]::text[], array[claims], array['{}'], bypass_roles) as d;
      late := case when answer.code in ('57014', '55P03') then '-infinity' else late end;
    end if;
    for one.action, one.value, one.sentence in values
      ('receive', answer.receive::text, substring(answer.reason from '^receive: (.*?)(; send: .*)?$')),
      ('send', answer.send::text, substring(answer.reason from 'send: (.*)$'))
    loop
      one.sentence := case one.value when 'true' then 'is allowed' || coalesce(' for ' || round(answer.valid_for::numeric, 3) || ' s, and decided anew then', '')
                                     else coalesce(one.sentence, answer.reason, 'is refused') end;
      return next one;
    end loop;
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime._explain_decisions(text, name, text, text[], text, timestamptz) is 'What the server decides, by _decide, for both actions and both extensions.';

-- +goose StatementBegin
create function realtime.explain(topic text, claims jsonb, role text default null)
  returns table (step int, subject text, action text, extension text, name text, value text, sentence text, kind text, roles text, expression text)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  asked_claims jsonb := coalesce(claims, nullif(current_setting('request.jwt.claims', true), '')::jsonb, '{}');
  asked        name  := coalesce(role, asked_claims ->> 'role');
  bypass       text[] := (select s.value from realtime._settings s where s.name = 'bypass_roles');
  timer        interval := current_setting('statement_timeout')::interval;
  -- A tenth early: the timer does not fire to the millisecond when the clock says so, and whoever swallows it has used it up.
  late         timestamptz := case when timer > interval '0' then statement_timestamp() + timer * 0.9 else 'infinity' end;
  findings     realtime._finding[];
  seen         realtime._finding[] := '{}';
  verdicts     realtime._finding[];
  decisions    realtime._finding[];
  differences  realtime._finding[];
  settings     text[] := array['role', 'realtime.topic', 'request.jwt.claims', 'request.jwt.claim.sub', 'request.jwt.claim.role', 'request.headers', 'search_path'];
  held         text[];  -- their values
  setting      text;
  barred       text;  -- the server refuses or cannot become the role, and _decide does not know that: it is not asked
  not_asked    text;  -- why policies are not asked
begin
  if topic is null then
    raise exception 'explain(): the topic must be given' using errcode = '22004';
  elsif asked is null then
    raise exception 'explain(): no role: give one, or claims that name one' using errcode = '22023';
  elsif current_setting('transaction_read_only')::boolean then
    raise exception 'explain() needs a read-write transaction' using errcode = '25006';
  end if;
  findings := array(select f from realtime._explain_role(asked, bypass) as f);
  select f.sentence into not_asked from unnest(findings) as f where f.kind = 'refuses' and f.action is null limit 1;
  if not_asked is null then
    -- What policies see, if we can become the role at all.
    begin
      perform realtime._become(topic, asked, asked_claims::text, '{}');
      foreach setting in array settings loop
        held := pg_catalog.array_append(held, pg_catalog.current_setting(setting));
      end loop;
      raise exception using errcode = 'RB001';
    exception
      when sqlstate 'RB001' then
        seen := array(
          select row('setting', null, null, s.name, s.held, case s.name when 'request.headers' then 'of a client, its x-… headers; none here' when 'search_path' then 'the default of the session: where functions of policies find names' end,
                   null, null, null)::realtime._finding
            from unnest(settings, held) with ordinality as s (name, held, place) order by s.place);
      when others then
        not_asked := format('%I may not become %I: %s', session_user, asked, sqlerrm);
        seen := array[row('role', null, null, format('%s may become %s', session_user, asked), 'false', not_asked, 'refuses', null, null)::realtime._finding];
    end;
  end if;
  if not_asked is null and exists (select from unnest(findings) as f where f.subject = 'role' and f.name = 'bypassrls' and f.value = 'true') then
    not_asked := format('%I bypasses row level security', asked);
  end if;
  findings := findings || seen || array(select f from realtime._explain_policies(topic, asked, asked_claims::text, late, not_asked) as f);
  late := case when exists (select from unnest(findings) as f where f.value like 'unknown 57014%' or f.value like 'unknown 55P03%') then '-infinity' else late end;

  verdicts := array(
    select row('verdict', act, ext, null, v.allowed::text, v.because, null, null, null)::realtime._finding
      from unnest(array['broadcast', 'presence']) as ext, unnest(array['receive', 'send']) as act, realtime._explain_verdict(findings, asked, act, ext) as v);
  select f.sentence into barred from unnest(findings) as f where f.subject = 'role' and f.kind = 'refuses' and f.name <> 'refused' limit 1;
  decisions := array(select d from realtime._explain_decisions(topic, asked, asked_claims::text, bypass, barred, late) as d);
  differences := array(
    select row('difference', v.action, v.extension, 'decide', d.value,
        format('what is listed here leads to %s, the server decides %s: what decide says counts', v.value, d.value), null, null, null)::realtime._finding
      from unnest(verdicts) as v join unnest(decisions) as d using (action, extension) where v.value <> d.value);
  return query
    select f.place::int, f.subject, f.action, f.extension, f.name, f.value, f.sentence, f.kind, f.roles, f.expression
      from unnest(findings || verdicts || decisions || differences || row('summary', null, null, null, null,
             realtime._explain_summary(topic, asked || coalesce(' sub=' || (asked_claims ->> 'sub'), ''), array(
               select row(d.subject, d.action, d.extension, null, d.value, case when v.value = d.value then v.sentence when v.value is null then concat_ws('; ', d.sentence, v.sentence) else d.sentence end, null, null, null)::realtime._finding
                 from unnest(decisions) as d join unnest(verdicts) as v using (action, extension))), null, null, null)::realtime._finding)
        with ordinality as f (subject, action, extension, name, value, sentence, kind, roles, expression, place);
end $$;
-- +goose StatementEnd
comment on function realtime.explain(text, jsonb, text) is
  'Why these claims may or may not receive and send on this topic: role, grants, settings, each policy with its value, the verdict they lead to, what the server decides, and one sentence. Arguments, and what it leaves behind, as with can().';

revoke execute on function
  realtime._policies(),
  realtime._explain_role(name, text[]),
  realtime._evaluate(text, realtime.messages[], name, text, timestamptz),
  realtime._explain_value(text, name, oid[], oid[], int),
  realtime._explain_policies(text, name, text, timestamptz, text),
  realtime._explain_verdict(realtime._finding[], name, text, text),
  realtime._explain_decisions(text, name, text, text[], text, timestamptz),
  realtime._explain_summary(text, text, realtime._finding[]),
  realtime.explain(text, jsonb, text)
  from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime.explain(text, jsonb, text);
drop function realtime._explain_summary(text, text, realtime._finding[]);
drop function realtime._explain_decisions(text, name, text, text[], text, timestamptz);
drop function realtime._explain_verdict(realtime._finding[], name, text, text);
drop function realtime._explain_policies(text, name, text, timestamptz, text);
drop function realtime._explain_value(text, name, oid[], oid[], int);
drop function realtime._evaluate(text, realtime.messages[], name, text, timestamptz);
drop function realtime._explain_role(name, text[]);
drop function realtime._policies();
drop type realtime._finding;
