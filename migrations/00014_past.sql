-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- What policies would say of rows that are gone. Who could see a row before is asked in an old snapshot, and who has lost the
-- right since then must not be told that it was deleted. Now there is no row that the policies could be asked about by looking
-- for it: so they are asked by their texts. That is no second opinion about who may see what: it only keeps back what row level
-- security itself let through in the old snapshot, and what cannot be told is kept back too.

create function realtime._holders(relations oid[], roles text[]) returns text[]
  language sql stable
  return array(select concat_ws(' ', a.rolname, o.oid)
    from pg_roles a join pg_roles o on o.oid in (select unnest(p.polroles) from pg_policy p where p.polrelid = any (relations))
   where a.rolname = any (roles::name[]) and pg_has_role(a.oid, o.oid, 'usage') order by 1);
comment on function realtime._holders(oid[], text[]) is
  'Which of the roles have the privileges of roles that policies of relations are for; so those policies are theirs, too.';

-- What is written anew is all of the transaction that did so: who looks in an older snapshot finds nothing, and no error says so.
-- +goose StatementBegin
create function realtime._rewritten(relations oid[]) returns boolean
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare yes boolean;
begin
  -- The block ends in an error, always: pg_partition_tree() locks what it finds until then, and else until the end of a transaction
  -- that may last as long as nobody writes. Whoever wanted to drop or truncate a partition waited for that.
  begin
    yes := exists (
      select from pg_class c
       where c.oid in (select unnest(relations) union all select p.relid from pg_class r cross join lateral pg_partition_tree(r.oid) as p where r.oid = any (relations) and r.relkind = 'p')
         and c.relkind in ('r', 'm') and c.relfilenode <> pg_relation_filenode(c.oid));
    raise exception using errcode = 'RB001';
  exception when sqlstate 'RB001' then null;
  end;
  return yes;
end $$;
-- +goose StatementEnd
comment on function realtime._rewritten(oid[]) is
  'Whether some of these relations, or partitions of them, were written anew or truncated since the transaction''s snapshot. To be asked after the question whose answer depends on it, which locks them.';

-- +goose StatementBegin
create function realtime._reading_text(relation oid, asked name) returns text
  language sql stable
begin atomic
  select coalesce('(' || string_agg(using_text, ' or ') filter (where polpermissive) || ')', 'false')
         || coalesce(' and ' || string_agg(using_text, ' and ') filter (where not polpermissive), '')
    from pg_policy cross join lateral (select '(' || coalesce(pg_get_expr(polqual, polrelid), 'false') || ')' as using_text) as x
   where polrelid = relation and polcmd in ('r', '*') and polqual is not null
     and exists (select from unnest(polroles) as r where r = 0 or pg_has_role(asked, r, 'usage'));
end;
-- +goose StatementEnd
comment on function realtime._reading_text(oid, name) is
  'The condition that the policies make of what a role may read of a table. It means what they do under the search_path of the moment.';

-- Under these a text is written and read that is about to be executed as the role. Under others Postgres would read it once more, as the
-- role: what is in pg_catalog, and has no schema in the text, may be found elsewhere then.
-- +goose StatementBegin
create function realtime._users_schemas(role text, claims text) returns text
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  within text;
  worn   text;  -- of no use, as in _look
begin
  begin
    worn := realtime._become('', role, claims, '{}');
    within := pg_catalog.array_to_string(array(
      select pg_catalog.quote_ident(s.name) from pg_catalog.unnest(pg_catalog.current_schemas(false)) with ordinality as s (name, i) order by s.i), ', ');
    raise exception using errcode = 'RB001';
  exception when sqlstate 'RB001' then null;
  end;
  return within;
end $$;
-- +goose StatementEnd
comment on function realtime._users_schemas(text, text) is 'The schemas that a user finds names in, as a search_path.';

-- PREPARE has the text parsed by us and executed by the role, as with policies: it needs no right to the schemas that they
-- name. But a value that is written in the text is read then: where that may run anybody's code (_anybodys), the role has to do it. The rows are a parameter for the sake of domains, whose checks are run by who makes the value. One row after another
-- under the table's name, so that a whole row has the table's type.
-- +goose StatementBegin
create function realtime._would(type text, alias text, rows text[], condition text, path text, trusted boolean, role text, claims text, out visible int[], out code text)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  parsed  text := format('prepare realtime_would (%s[]) as select pg_catalog.array_agg(u.n order by u.n) from pg_catalog.generate_series(1, %s) as u (n) where exists (select from pg_catalog.unnest($1[u.n : u.n]) as %s where %s)',
                         type, cardinality(rows), alias, condition);
  asked   text := format('execute realtime_would (%L)', rows);
  done    boolean := false;
  worn    text;  -- of no use: an assignment costs less than PERFORM
begin
  if exists (select from pg_prepared_statements where name = 'realtime_would') then
    deallocate realtime_would;
  end if;
  -- The block ends in an error, always, as in _look.
  begin
    if trusted then
      worn := set_config('search_path', path, true);
      execute parsed;
    end if;
    worn := realtime._become('', role, claims, '{}');
    if not trusted then
      execute parsed;
    end if;
    execute asked into visible;
    done := true;
    raise exception using errcode = 'RB001';
  exception when query_canceled or assert_failure or others then
    if not done then
      visible := null; code := sqlstate;
    end if;
  end;
end $$;
-- +goose StatementEnd
comment on function realtime._would(text, text, text[], text, text, boolean, text, text) is
  'For which of these rows, written as values of a table''s type, a condition holds in the eyes of a user; path: the schemas under which it is written; trusted: to read its values runs nobody else''s code; code: the SQLSTATE that it ended in.';

-- +goose StatementBegin
create function realtime._still(relation oid, attributes text[], vals text[], many int, roles text[], claims text[])
  returns table (grp int, visible int[])
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  timer     interval := current_setting('statement_timeout')::interval;
  -- Before the timer fires, not when: a policy that swallows it may be back in that very moment.
  late      timestamptz := case when timer > interval '0' then statement_timestamp() + 0.9 * timer else 'infinity' end;
  within    text;  -- the schemas that the role finds names in
  named     record;
  trusted   boolean := not exists (
    select from pg_policy p join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
     where p.polrelid = relation and d.refclassid = 'pg_type'::regclass and realtime._anybodys(d.refobjid, false));
  rows      text[];
  vetted    name;
  condition text;
  one       record;
  worn      text;  -- of no use, as above
begin
  for one in select name from pg_prepared_statements where name in ('realtime_held', 'realtime_would') loop  -- of a policy's function
    execute format('deallocate %I', one.name);
  end loop;
  begin
    -- PREPARE keeps the table's definition as it is until the block ends, and asks for no right to it. What the catalogs say in
    -- this snapshot must be that: a value in another's place would be judged as what it is not.
    named := pg_identify_object('pg_class'::regclass, relation, 0);
    execute format('prepare realtime_held as select from only %s', named.identity);
    deallocate realtime_held;
    if exists (select from pg_attribute where attrelid = relation and attnum > 0
                  and (pg_identify_object('pg_class'::regclass, relation, attnum)).identity is distinct from format('%s.%I', named.identity, attname))
       or (pg_identify_object('pg_class'::regclass, relation, (select max(attnum) + 1 from pg_attribute where attrelid = relation))).identity <> named.identity then
      raise exception using errcode = 'RB001';
    end if;
    rows := array(
      select '(' || array_to_string(array(
               select coalesce('"' || replace(replace(vals[(r - 1) * cardinality(attributes) + array_position(attributes, attname::text)], '\', '\\'), '"', '""') || '"', '')
                 from pg_attribute where attrelid = relation and attnum > 0 and not attisdropped order by attnum), ',') || ')'
        from generate_series(1, many) as r order by r);

    for i in 1 .. cardinality(roles) loop
      exit when clock_timestamp() > late;
      grp := i;
      if i = 1 or vetted is distinct from roles[i] then
        vetted := roles[i];
        within := realtime._users_schemas(vetted, '{}');
        begin
          worn := set_config('search_path', within, true);
          condition := realtime._reading_text(relation, vetted);
          raise exception using errcode = 'RB002';
        exception when sqlstate 'RB002' then null;
        end;
      end if;
      select * into one from realtime._would(named.identity, named.name, rows, condition, within, trusted, vetted, claims[i]);
      visible := one.visible;
      -- What the policies raise about one row says nothing about the others.
      for r in 1 .. case when one.code is not null then many else 0 end loop
        exit when one.code in ('57014', '55P03') or clock_timestamp() > late;
        select * into one from realtime._would(named.identity, named.name, rows[r : r], condition, within, trusted, vetted, claims[i]);
        visible := case when one.visible <> '{}' then visible || r else visible end;
      end loop;
      return next;
      exit when one.code in ('57014', '55P03');  -- the timer fires once a statement: the next slow policy would run without one
    end loop;
    raise exception using errcode = 'RB001';
  exception when query_canceled or assert_failure or others then null;  -- of whom nothing was said, nothing can be told
  end;
  for one in select name from pg_prepared_statements where name in ('realtime_held', 'realtime_would') loop
    execute format('deallocate %I', one.name);
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime._still(oid, text[], text[], int, text[], text[]) is
  'Which of rows that are gone users would see if they were still there: places from 1, for one group per position of roles and claims. vals has the attributes of the first row, then of the second, …; of others they are null. Who or what is not mentioned would not, or it cannot be told.';

revoke execute on function
  realtime._holders(oid[], text[]),
  realtime._rewritten(oid[]),
  realtime._reading_text(oid, name),
  realtime._users_schemas(text, text),
  realtime._would(text, text, text[], text, text, boolean, text, text),
  realtime._still(oid, text[], text[], int, text[], text[])
  from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime._still(oid, text[], text[], int, text[], text[]);
drop function realtime._would(text, text, text[], text, text, boolean, text, text);
drop function realtime._users_schemas(text, text);
drop function realtime._reading_text(oid, name);
drop function realtime._rewritten(oid[]);
drop function realtime._holders(oid[], text[]);
