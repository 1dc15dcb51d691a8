-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- What Postgres Changes asks about rows. They come from the WAL, which knows no rights: whether somebody may see one is found
-- out by looking for it, as him, by its key.
--
-- Tables, types and operators are the user's, so the statements are put together here: names by %I or as they were looked
-- up, values by %L. All have their schema, as Postgres reads the statements under the user's search_path. A quoted value goes through its type's own input, as what a client writes does, and never through a cast.

-- +goose StatementBegin
create function realtime._base_type(type oid) returns oid
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare base oid := type;
begin
  loop
    select case when typtype = 'd' then typbasetype end into base from pg_type where oid = type;
    if base is null then return type; end if;
    type := base;
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime._base_type(oid) is 'What is beneath a domain, however deep; else the type itself.';

create function realtime._type_name(type oid) returns text
  language sql stable
  return (
    select format('%I.%I', n.nspname, t.typname) from pg_type t join pg_namespace n on n.oid = t.typnamespace where t.oid = type);
comment on function realtime._type_name(oid) is 'A type''s name with its schema and without its modifier, as it is written in a cast.';

create function realtime._typed(type oid, collation_ oid) returns text
  language sql stable
  return concat(realtime._type_name(realtime._base_type(type)), (
    select format(' collate %I.%I', n.nspname, c.collname) from pg_collation c join pg_namespace n on n.oid = c.collnamespace where c.oid = collation_ and c.collname <> 'default'));
comment on function realtime._typed(oid, oid) is 'What to write after a cast''s :: to make a column''s value of a text.';

-- Types of extensions have their own operators, which need not be in the search_path. But anybody may make an operator, on anybody's
-- type: those are meant that are a superuser's, as of every type that has its own input, or of a role that has our rights anyway.
create function realtime._operator(type oid, symbol text) returns text
  language sql stable
  return format('operator(%I.%s)', coalesce((
    select n.nspname from pg_operator o join pg_namespace n on n.oid = o.oprnamespace join pg_roles r on r.oid = o.oprowner
     where o.oprname = symbol and o.oprleft = type and o.oprright = type and pg_has_role(r.oid, current_user, 'usage')
     order by n.nspname <> 'pg_catalog', n.nspname limit 1), 'pg_catalog'), symbol);
comment on function realtime._operator(oid, text) is 'The operator between two values of a type, with its schema: one of a superuser or of who has our rights, else Postgres'' own.';

-- +goose StatementBegin
create function realtime._missing_grant(role name, relation oid, key text[]) returns text
  language sql stable
  return (
    select nullif(concat_ws(' ',
      case when not has_schema_privilege(role, c.relnamespace, 'usage') then format('grant usage on schema %I to %I;', n.nspname, role) end,
      case when exists (
          select from unnest(key) as k (name)
           where not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = k.name and has_column_privilege(role, c.oid, a.attnum, 'select')))
        then format('grant select on %I.%I to %I;', n.nspname, c.relname, role) end), '')
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation);
-- +goose StatementEnd
comment on function realtime._missing_grant(name, oid, text[]) is 'What has to be granted to a role before it can look for rows by their key; null if nothing.';

create function realtime._readable(role name, relation oid) returns text[]
  language sql stable
  return array(select attname::text from pg_attribute
    where attrelid = relation and attnum > 0 and not attisdropped and has_column_privilege(role, relation, attnum, 'select') order by attnum);
comment on function realtime._readable(name, oid) is 'The columns of a table that a role may read, in the table''s order.';

-- Of each text, whether it is one of a type's; those that are not become null, which equals nothing.
-- +goose StatementBegin
create function realtime._valid(type text, vals text[]) returns text[]
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  for i in 1 .. coalesce(cardinality(vals), 0) loop
    begin
      execute format('select %L::%s', vals[i], type);
    exception when others then
      vals[i] := null;
    end;
  end loop;
  return vals;
end $$;
-- +goose StatementEnd
comment on function realtime._valid(text, text[]) is 'The texts of a type; null for those that are none.';

-- Who owns a type can say what is done to its values: a domain that is a part of them has a CHECK, a cast to json is what to_jsonb()
-- uses. It can be said at any time, so it counts who owns it; but what an enum is made of cannot change.
-- Superusers, and roles that have our rights, could do as much without it.
-- +goose StatementBegin
create function realtime._anybodys(type oid, casts boolean) returns boolean
  language sql stable
begin atomic
  with recursive part (oid) as (
    select type
    union
    select n.oid from part join pg_type t on t.oid = part.oid cross join lateral (
      select t.typelem union all select t.typbasetype union all select r.rngsubtype from pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
      union all select a.atttypid from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and t.typrelid <> 0) as n (oid)
     where n.oid >= 16384
  )
  select exists (select from part join pg_type t on t.oid = part.oid join pg_roles r on r.oid = t.typowner
                  where t.oid >= 16384 and not pg_has_role(r.oid, current_user, 'usage') and (t.typtype in ('c', 'd') or casts and t.typtype in ('b', 'e', 'r', 'm') and not (t.typtype = 'b' and t.typelem <> 0)));
end;
-- +goose StatementEnd
comment on function realtime._anybodys(oid, boolean) is
  'Whether to read a value of this type can run what somebody has said who does not have our rights; casts: or to make JSON of one.';

-- Looks for each key by itself, so that no row is judged but those that are asked about. Only an operator that is known to
-- tell nothing (leakproof) may come before the policies; where there is none, as for enum and numeric, Postgres judges all
-- rows anyway, and does it once.
-- +goose StatementBegin
create function realtime._lookup_parts(relation oid, key text[], wanted text[],
    out single text, out matched text[], out types text[], out head text, out arrays text[], out tail text)
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  target text := (select case when relkind = 'p' then '' else 'only ' end from pg_class where oid = relation)  -- a child's row is no row of its parent
                 || (pg_identify_object('pg_class'::regclass, relation, 0)).identity;                          -- its name as of now, whatever the snapshot
  bases  oid[] := array(
    select realtime._base_type(a.atttypid) from unnest(key) with ordinality as k (name, i) join pg_attribute a on a.attrelid = relation and a.attname = k.name order by k.i);
  values text := nullif(format('array[%s]', array_to_string(wanted, ', ')), 'array[]');
  quiet  boolean := exists (
    select from unnest(bases) as k (type) join pg_operator o on o.oprname = '=' and o.oprleft = k.type and o.oprright = k.type join pg_proc p on p.oid = o.oprcode where p.proleakproof)
    or bases && array['varchar'::regtype::oid];
  equal  text;
begin
  types := array(select realtime._type_name(k.type) from unnest(bases) with ordinality as k (type, i) order by k.i);
  if not exists (select from unnest(bases) as k (type) join pg_type t on t.oid = k.type where t.typarray = 0 or t.typtype = 'c') then  -- else unnest() would take the key itself apart
    arrays := array(select realtime._type_name(t.typarray) from unnest(bases) with ordinality as k (type, i) join pg_type t on t.oid = k.type order by k.i);
  end if;
  matched := array(select format('t.%I %s ', key[c], realtime._operator(bases[c], '=')) from generate_subscripts(key, 1) as c order by c);
  equal := (select string_agg(concat(matched[c], 'u.k', c), ' and ' order by c) from generate_subscripts(key, 1) as c);
  single := format('select array[1], %s from %s as t where ', coalesce('array[' || values || ']', 'null'), target);
  head := format('select pg_catalog.array_agg(u.n order by u.n), %s from ', case when values is null then 'null' else 'pg_catalog.array_agg(x.w order by u.n)' end);
  tail := format(case when quiet
    then ' as u (%1$s, n) cross join lateral (select %2$s as w from %3$s as t where %4$s limit 1) as x'
    else ' as u (%1$s, n) join %3$s as t on %4$s cross join lateral (select %2$s as w) as x' end,
    (select string_agg(concat('k', c), ', ' order by c) from generate_subscripts(key, 1) as c), coalesce(values, 'null'), target, equal);
end $$;
-- +goose StatementEnd
comment on function realtime._lookup_parts(oid, text[], text[]) is 'What _lookup puts together, whatever the keys: to find it out takes longer than to look. wanted are expressions of row t.';

-- +goose StatementBegin
create function realtime._lookup(single text, matched text[], types text[], head text, arrays text[], tail text, keys text[]) returns text
  language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  width int := cardinality(types);
  n     int := cardinality(keys) / width;
  built text;
begin
  if n = 1 then  -- a third as dear
    for c in 1 .. width loop
      built := concat(built || ' and ', matched[c], format('%L::%s', keys[c], types[c]));
    end loop;
    return concat(single, built, ' limit 1');
  elsif arrays is not null then  -- half as dear as VALUES
    for c in 1 .. width loop
      built := concat(built || ', ', format('pg_catalog.unnest(%L::%s)', keys[(c - 1) * n + 1 : c * n], arrays[c]));
    end loop;
    return concat(head, 'rows from (', built, ') with ordinality', tail);
  end if;
  built := (select string_agg(format('(%s, %s)', (
      select string_agg(format('%L::%s', keys[(c - 1) * n + r], types[c]), ', ' order by c) from generate_series(1, width) as c), r), ', ' order by r)
    from generate_series(1, n) as r);
  return concat(head, '(values ', built, ')', tail);
end $$;
-- +goose StatementEnd
comment on function realtime._lookup(text, text[], text[], text, text[], text, text[]) is
  'The statement that looks for rows by their key, of _lookup_parts. keys has all values of the first key column, then of the second, …. It gives the places of the keys that were found, and of each what was wanted.';

-- It has no search_path of its own, which would cost a twentieth of a question: _visible has, and calls it. What it names has its schema.
-- +goose StatementBegin
create function realtime._look(relation oid, query text, bound boolean, unbound boolean, role text, claims text,
    out row_security boolean, out visible int[], out texts text[], out code text, out reason text)
  language plpgsql as $$
#variable_conflict use_variable
declare
  done boolean := false;
  worn pg_catalog.text;  -- of no use: an assignment costs less than PERFORM
begin
  -- The block ends in an error, always: role, settings, rows, and whatever a policy's function did to any of them, are then
  -- back as they were before the next question is asked. Only plpgsql variables outlive it.
  begin
    worn := realtime._become('', role, claims, '{}');
    row_security := pg_catalog.row_security_active(relation);
    if query is not null and (row_security and bound or not row_security and unbound) then
      execute query into visible, texts;
      visible := coalesce(visible, '{}');
    end if;
    done := true;
    raise exception using errcode = 'RB001';
  exception when query_canceled or assert_failure or others then
    if not done then
      visible := null; texts := null; code := sqlstate; reason := sqlerrm;
    end if;
  end;
end $$;
-- +goose StatementEnd
comment on function realtime._look(oid, text, boolean, boolean, text, text) is
  'Runs what _lookup gave as a user, if policies bind him, or if they do not. row_security: whether they do on this table; null where not even that could be told. code: the SQLSTATE that it ended in.';

-- +goose StatementBegin
create function realtime._visible(relation oid, key text[], keys text[], roles text[], claims text[], bypass_roles text[], wanted text[], about text[])
  returns table (grp int, refusal text, missing text, columns text[], row_security boolean, visible int[], texts text[], failed int[], code text, reason text)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  timer    interval := current_setting('statement_timeout')::interval;
  -- Before the timer fires, not when: a policy that swallows it may be back in that very moment.
  late     timestamptz := case when timer > interval '0' then statement_timestamp() + 0.9 * timer else 'infinity' end;
  -- In a long transaction a backend hears of definitions and rights that have changed when it takes a lock, which this does. So
  -- rows are those of its snapshot, but rights those of now.
  there    boolean := pg_relation_size(relation) is not null and exists (select from pg_class where oid = relation);
  many     int := coalesce(cardinality(keys), 0) / greatest(cardinality(key), 1);
  vetted   text;       -- the role that the following is about
  refused  text;
  lacking  text;
  readable text[];
  shown    text[];     -- what is wanted, as far as the role may read it
  parts    record;     -- of the statements that look for rows, for all of this role
  ready    boolean;    -- these are known
  query    text;       -- the one about all keys
  own      text;       -- the one that is asked
  theirs   text[];     -- the keys that it is about
  places   int[];      -- of these among all
  several  int;        -- how many these are
  sifted   boolean := false;  -- keys that are none of their types' have been taken out
  one      record;
begin
  <<groups>>
  for i in 1 .. cardinality(roles) loop
    exit when i > 1 and clock_timestamp() > late;  -- see below: a policy's function has swallowed that
    grp := i; refusal := null; missing := null; columns := null; row_security := null; visible := null; texts := null; failed := null; code := null; reason := null;
    places := about[i]::int[];
    several := coalesce(cardinality(places), many);

    loop
      if vetted is distinct from roles[i] then
        vetted := roles[i];
        refused := realtime._role_refusal(vetted::name, bypass_roles);
        query := null; lacking := null; ready := false;
        if refused is null and there then
          lacking := realtime._missing_grant(vetted::name, relation, key);
          readable := realtime._readable(vetted::name, relation);
          -- As the WAL has it: by the type's output, and not by a cast to text. IS NULL would mean something else for a row.
          shown := array(
            select case when w.name = any (readable) then format('case when pg_catalog.num_nulls(t.%1$I) operator(pg_catalog.=) 0 then pg_catalog.concat(t.%1$I) end', w.name) else 'null' end
              from unnest(wanted) with ordinality as w (name, i) order by w.i);
        end if;
      end if;
      refusal := refused;
      if refusal is not null then
        return next;
        continue groups;
      end if;
      if not there then
        code := '42P01'; reason := 'the table is not there';
        return next;
        continue groups;
      end if;
      columns := readable; missing := lacking;

      loop
        own := null;
        if missing is null and several > 0 then
          if not ready then
            select * into parts from realtime._lookup_parts(relation, key, shown);
            ready := true;
          end if;
          if places is null then
            query := coalesce(query, realtime._lookup(parts.single, parts.matched, parts.types, parts.head, parts.arrays, parts.tail, keys));
            own := query; theirs := keys;
          else
            theirs := array(select keys[(c - 1) * many + p] from generate_subscripts(key, 1) as c cross join unnest(places) with ordinality as o (p, i) order by c, o.i);
            own := realtime._lookup(parts.single, parts.matched, parts.types, parts.head, parts.arrays, parts.tail, theirs);
          end if;
        end if;
        select * into row_security, visible, texts, code, reason from realtime._look(relation, own, claims[i] is not null, wanted <> '{}', vetted, coalesce(claims[i], '{}'));
        exit when sifted or code is null or code not like '22%' or own is null;
        exit when exists (select from pg_attribute where attrelid = relation and attname = any (key) and realtime._anybodys(realtime._base_type(atttypid), false));
        sifted := true; query := null;
        for c in 1 .. cardinality(key) loop
          keys := keys[: (c - 1) * many] || realtime._valid((
            select realtime._type_name(realtime._base_type(atttypid)) from pg_attribute where attrelid = relation and attname = key[c]), keys[(c - 1) * many + 1 : c * many]) || keys[c * many + 1 :];
        end loop;
      end loop;

      -- A grant that was taken since the role was looked at is no fault of the policies: then the role is looked at again.
      exit when code is distinct from '42501' or clock_timestamp() > late
        or readable = realtime._readable(vetted::name, relation) and lacking is not distinct from realtime._missing_grant(vetted::name, relation, key);
      vetted := null;
    end loop;

    -- What the policies raise about one row says nothing about the others.
    if code not in ('57014', '55P03') and row_security is not null and several > 1 then
      visible := '{}'; failed := '{}';
      for k in 1 .. several loop
        if clock_timestamp() > late then
          failed := failed || k;
          continue;
        end if;
        own := realtime._lookup(parts.single, parts.matched, parts.types, parts.head, parts.arrays, parts.tail, array(select theirs[(c - 1) * several + k] from generate_subscripts(key, 1) as c order by c));
        select * into one from realtime._look(relation, own, claims[i] is not null, true, vetted, coalesce(claims[i], '{}'));
        if one.code is not null then
          failed := failed || k; code := one.code; reason := one.reason;
          exit when code in ('57014', '55P03');
        elsif one.visible <> '{}' then
          visible := visible || k; texts := texts || one.texts;
        end if;
      end loop;
    end if;
    -- The timer fires once a statement: the next slow policy would run without one. And whoever waits for a lock keeps the
    -- others waiting.
    if code in ('57014', '55P03') then
      visible := null; texts := null; failed := null;
      return next;
      return;
    end if;
    if failed = '{}' then  -- one by one they do not raise
      failed := null; code := null; reason := null;
    end if;
    if places is not null then
      visible := case when visible is not null then array(select places[u.at] from unnest(visible) with ordinality as u (at, n) order by u.n) end;
      failed := case when failed is not null then array(select places[u.at] from unnest(failed) with ordinality as u (at, n) order by u.n) end;
    end if;
    return next;
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime._visible(oid, text[], text[], text[], text[], text[], text[], text[]) is
  'Which rows of a table somebody may see, for one group of users per position of roles and claims; sorted by role, it costs least. See _lookup for keys; about: the places of the only keys that a group is asked about, as the text of an int[], null for all. Claims that are null stand for what all users of a role have in common: they are asked about rows only where policies do not bind the role. refusal: of the role; missing: the grant it takes to ask; visible: places among keys, null where row level security does not apply; texts: of each visible row, in this order, the wanted columns. code: an SQLSTATE, refused because of it; where there is failed, only at these places. Groups at the end without a row were not asked, because of the timeout of the one before them (57014, 55P03).';

create function realtime._policies_digest(relations oid[], functions oid[]) returns text
  language sql stable
  return md5(concat_ws(';',
    (select string_agg(concat_ws(',', oid, relnamespace, relname, relkind, relrowsecurity, relforcerowsecurity, relowner), ';' order by oid) from pg_class where oid = any (relations)),
    (select string_agg(concat_ws(',', oid, xmin), ';' order by oid) from pg_policy where polrelid = any (relations)),
    (select string_agg(concat_ws(',', oid, xmin), ';' order by oid) from pg_proc where oid = any (functions)),
    (select string_agg(concat_ws(',', oid, confdeltype), ';' order by oid) from pg_constraint where contype = 'f' and conrelid = any (relations))));
comment on function realtime._policies_digest(oid[], oid[]) is
  'Whether what the policies of relations say is the same as before, and what takes rows of these along. What was written again has another xmin, also where it is as it was.';

-- +goose StatementBegin
create function realtime._comparison(type oid, op text, operand text[]) returns text
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  base   oid := realtime._base_type(type);
  symbol text := case op when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<=' when 'gt' then '>' when 'gte' then '>=' when 'in' then '=' when 'isdistinct' then '='
                         when 'like' then '~~' when 'ilike' then '~~*' when 'match' then '~' when 'imatch' then '~*' end;
  name   text := realtime._type_name(base);
  single text;
begin
  if op in ('like', 'ilike', 'match', 'imatch') and not exists (
      select from pg_operator o join pg_roles r on r.oid = o.oprowner where o.oprname = symbol and o.oprleft = base and o.oprright = base and pg_has_role(r.oid, current_user, 'usage')) then
    if base >= 16384 and not exists (select from pg_type where oid = base and typtype = 'b' and typelem = 0) then  -- with a cast to text somebody could bring one about
      raise exception 'operator does not exist: % % text', format_type(base, null), symbol using errcode = '42883';
    end if;
    name := 'pg_catalog.text';
  end if;
  if op = 'is' then
    return 'v is ' || case lower(operand[1]) when 'null' then 'null' when 'true' then 'true' when 'false' then 'false' when 'unknown' then 'unknown' end;
  end if;
  single := coalesce((select string_agg(format('v %s %L::%s', realtime._operator(base, symbol), o, name), ' or ') from unnest(operand) as o), 'false');
  return case when op = 'isdistinct' then format('(%s) is not true', single) else format('(%s)', single) end;
end $$;
-- +goose StatementEnd
comment on function realtime._comparison(oid, text, text[]) is 'A filter''s condition on a value v of this type, as SQL; null if there is none such. Only in has several operands.';

-- +goose StatementBegin
create function realtime._check_entry(role text, relation oid, key text[], conditions jsonb, selected text[], bypass_roles text[])
  returns table (code text, problem text, missing text)
  language plpgsql set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $$
#variable_conflict use_variable
declare
  refusal text := realtime._role_refusal(role::name, bypass_roles);
  c       record;
  type    oid;
  typed   text;
begin
  if refusal is not null then
    code := '42501'; problem := refusal;
    return next;
    return;
  end if;
  missing := realtime._missing_grant(role::name, relation, key);
  for c in select e ->> 'Column' as name, e ->> 'Op' as op, coalesce((select array_agg(v order by i) from jsonb_array_elements_text(nullif(e -> 'Values', 'null')) with ordinality as v (v, i)), array[e ->> 'Value']) as operand
             from jsonb_array_elements(conditions) as e loop
    select atttypid, realtime._typed(atttypid, attcollation) into type, typed from pg_attribute
     where attrelid = relation and attname = c.name and attnum > 0 and not attisdropped and has_column_privilege(role::name, relation, attnum, 'select');
    if not found then
      code := 'P0001'; problem := format('invalid column for filter %s', c.name);
      return next;
      return;
    end if;
    if c.op = 'is' and lower(c.operand[1]) not in ('null', 'true', 'false', 'unknown') then
      code := 'P0001'; problem := format('invalid value for filter %s: is takes null, true, false or unknown', c.name);
      return next;
      return;
    end if;
    if realtime._anybodys(realtime._base_type(type), false) then
      code := '42501'; problem := format('the filter %s is not evaluated: what a value of type %s is, is up to a role that does not have those of %I', c.name, format_type(type, null), current_user);
      return next;
      return;
    end if;
    begin
      execute format('select %s from (select null::%s) as x (v)', realtime._comparison(type, c.op, c.operand), typed);
      if c.op in ('match', 'imatch') then  -- of a null it is not read
        execute format('select %L ~ %L', '', c.operand[1]);
      end if;
    exception when others then
      code := sqlstate; problem := sqlerrm;
      return next;
      return;
    end;
  end loop;
  select 'P0001', format('invalid column for select %s', s.name) into code, problem
    from unnest(selected) with ordinality as s (name, i)
   where not exists (select from pg_attribute
           where attrelid = relation and attname = s.name and attnum > 0 and not attisdropped and has_column_privilege(role::name, relation, attnum, 'select'))
   order by i limit 1;
  return next;
end $$;
-- +goose StatementEnd
comment on function realtime._check_entry(text, oid, text[], jsonb, text[], text[]) is
  'What is wrong with a filter and a selection of columns for this role: an SQLSTATE and a sentence, null if nothing. missing: the grant without which it is told of no row.';

-- +goose StatementBegin
create function realtime._matches(relation oid, attribute text, op text, operand text[], vals text[]) returns table (truths boolean[], code text, reason text)
  language plpgsql set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $$
#variable_conflict use_variable
declare
  typed text;
  test  text;
  truth boolean;
begin
  begin
    select case when not realtime._anybodys(realtime._base_type(atttypid), false) then realtime._typed(atttypid, attcollation) end, realtime._comparison(atttypid, op, operand) into typed, test
      from pg_attribute where attrelid = relation and attname = attribute;
    if typed is null then  -- the column is gone, or it is as _check_entry says
      raise exception 'values of column % are not compared', attribute using errcode = '42501';
    end if;
  exception when others then
    code := sqlstate; reason := sqlerrm; truths := array_fill(null::boolean, array[cardinality(vals)]);
    return next;
    return;
  end;
  begin
    execute format('select array_agg(%s order by n) from (values %s) as x (n, v)', test,
      (select string_agg(format('(%s, %L::%s)', n, v, typed), ', ' order by n) from unnest(vals) with ordinality as u (v, n))) into truths;
    return next;
    return;
  exception
    when query_canceled then
      code := sqlstate; reason := sqlerrm; truths := array_fill(null::boolean, array[cardinality(vals)]);
      return next;
      return;
    when others then null;
  end;
  for i in 1 .. cardinality(vals) loop
    begin
      execute format('select %s from (select %L::%s) as x (v)', test, vals[i], typed) into truth;
    exception
      when query_canceled then
        code := sqlstate; reason := sqlerrm; truths := truths || array_fill(null::boolean, array[cardinality(vals) - i + 1]);
        exit;
      when others then
        code := sqlstate; reason := sqlerrm; truth := null;
    end;
    truths := truths || truth;
  end loop;
  return next;
end $$;
-- +goose StatementEnd
comment on function realtime._matches(oid, text, text, text[], text[]) is
  'Whether each value of a column passes a filter''s condition: null is SQL''s, or that it could not be told; then code and reason say why of the last such.';

-- The labels of an enum are texts, also in arrays.
create function realtime._json_type(type oid) returns text
  language sql stable
  return case when not realtime._anybodys(type, true) then realtime._type_name(type)
    when exists (select from pg_type t join pg_type e on e.oid = t.typelem where t.oid = type and t.typtype = 'b' and e.typtype = 'e') then 'pg_catalog.text[]'
    else 'pg_catalog.text' end;
comment on function realtime._json_type(oid) is 'The type by which a value is made JSON: its own, or that of its text where its own is anybody''s.';

-- +goose StatementBegin
create function realtime._render(types oid[], vals text[]) returns text[]
  language plpgsql set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO' set intervalstyle = 'postgres' set bytea_output = 'hex' set extra_float_digits = 1 as $$
declare
  names    text[] := array(select realtime._json_type(realtime._base_type(t)) from unnest(types) with ordinality as u (t, i) order by i);
  rendered text[];
  one      text;
begin
  begin
    execute (select format('select array[%s]', string_agg(format('coalesce(to_jsonb(%L::%s), ''null'')::text', v, n), ', ' order by i))
               from unnest(names, vals) with ordinality as u (n, v, i)) into rendered;
    return rendered;
  exception when others then null;
  end;
  for i in 1 .. cardinality(vals) loop
    begin
      execute format('select to_jsonb(%L::%s)', vals[i], names[i]) into one;
    exception when others then
      one := to_jsonb(vals[i]);
    end;
    rendered := rendered || coalesce(one, 'null');
  end loop;
  return rendered;
end $$;
-- +goose StatementEnd
comment on function realtime._render(oid[], text[]) is 'Values as to_jsonb() has them; as plain strings where it does not.';

-- +goose StatementBegin
create function realtime._create_publication(name text) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  execute format('create publication %I with (publish_via_partition_root = true)', name);
exception when duplicate_object then null;  -- another server was quicker
end $$;
-- +goose StatementEnd
comment on function realtime._create_publication(text) is 'Makes a publication without tables.';

-- +goose StatementBegin
create function realtime._publication_digest(publication text) returns text
  language sql stable
  return (
    with recursive p as (
      select * from pg_publication where pubname = publication
    ), published as (
      select t.* from p cross join lateral pg_get_publication_tables(p.pubname::text) as t
    ), up (oid) as (  -- changes may be asked for by the name of a partition, and of what it is a partition of
      select relid from published union select i.inhparent from up join pg_inherits i on i.inhrelid = up.oid
    ), kin (oid) as (
      select oid from up union select i.inhrelid from kin join pg_inherits i on i.inhparent = kin.oid
    ), role (oid) as (
      select oid from pg_roles where rolname = any ((select value from realtime._settings where name = 'allowed_roles')::name[])
      union select m.roleid from role join pg_auth_members m on m.member = role.oid
    )
    select coalesce((
      select md5(concat(to_jsonb(p), ';',
        (select string_agg(to_jsonb(t)::text, ',' order by t.relid) from published as t), ';',
        (select string_agg(row(c.oid, n.nspname, c.relname, c.relowner, c.relrowsecurity, c.relacl, n.nspowner, n.nspacl)::text, ',' order by c.oid)
           from kin join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace), ';',
        (select string_agg(row(a.attrelid, a.attnum, a.attacl)::text, ',' order by a.attrelid, a.attnum)
           from kin join pg_attribute a on a.attrelid = kin.oid where a.attacl is not null), ';',
        (select string_agg(row(r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls)::text, ',' order by r.oid) from role join pg_roles r using (oid)), ';',
        (select string_agg(m.roleid || ' ' || m.member || ' ' || m.xmin, ',' order by m.roleid, m.member, m.xmin::text) from role join pg_auth_members m on m.member = role.oid)))
        from p), ''));
-- +goose StatementEnd
comment on function realtime._publication_digest(text) is
  'Of what a publication publishes, and who may read of it what: another than before, and subscriptions to changes are looked at again. Empty: there is no such publication.';

revoke execute on function
  realtime._publication_digest(text),
  realtime._base_type(oid),
  realtime._type_name(oid),
  realtime._typed(oid, oid),
  realtime._operator(oid, text),
  realtime._missing_grant(name, oid, text[]),
  realtime._readable(name, oid),
  realtime._valid(text, text[]),
  realtime._anybodys(oid, boolean),
  realtime._lookup_parts(oid, text[], text[]),
  realtime._lookup(text, text[], text[], text, text[], text, text[]),
  realtime._look(oid, text, boolean, boolean, text, text),
  realtime._visible(oid, text[], text[], text[], text[], text[], text[], text[]),
  realtime._policies_digest(oid[], oid[]),
  realtime._comparison(oid, text, text[]),
  realtime._check_entry(text, oid, text[], jsonb, text[], text[]),
  realtime._matches(oid, text, text, text[], text[]),
  realtime._json_type(oid),
  realtime._render(oid[], text[]),
  realtime._create_publication(text)
  from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime._publication_digest(text);
drop function realtime._create_publication(text);
drop function realtime._render(oid[], text[]);
drop function realtime._json_type(oid);
drop function realtime._matches(oid, text, text, text[], text[]);
drop function realtime._check_entry(text, oid, text[], jsonb, text[], text[]);
drop function realtime._comparison(oid, text, text[]);
drop function realtime._visible(oid, text[], text[], text[], text[], text[], text[], text[]);
drop function realtime._look(oid, text, boolean, boolean, text, text);
drop function realtime._lookup(text, text[], text[], text, text[], text, text[]);
drop function realtime._lookup_parts(oid, text[], text[]);
drop function realtime._policies_digest(oid[], oid[]);
drop function realtime._anybodys(oid, boolean);
drop function realtime._valid(text, text[]);
drop function realtime._readable(name, oid);
drop function realtime._missing_grant(name, oid, text[]);
drop function realtime._operator(oid, text);
drop function realtime._typed(oid, oid);
drop function realtime._type_name(oid);
drop function realtime._base_type(oid);
