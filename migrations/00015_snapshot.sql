-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- The rows that are there, for those who want them before they are told of changes: page by page in the order of the key, each
-- read as the user, in a snapshot that the server holds.

-- Row filters name nothing but what is in pg_catalog. Written for the reader's schemas they mean the same to him.
-- +goose StatementBegin
create function realtime._sieves(relation oid) returns setof text
  language sql stable
begin atomic
  with recursive family (oid) as (
    select relation
    union select i.inhrelid from family f join pg_class c on c.oid = f.oid and c.relkind = 'p' join pg_inherits i on i.inhparent = f.oid
  ), published as (  -- before Postgres 15 there are no filters
    select p.pubname, f.oid, nullif(to_jsonb(p) ->> 'rowfilter', '') as filter
      from pg_publication_tables p join pg_namespace n on n.nspname = p.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename join family f on f.oid = c.oid
  )
  select string_agg(case when p.oid = relation then coalesce(filter, '') else concat('tableoid operator(pg_catalog.=) ', p.oid, ' and (' || filter || ')') end, ' or ' order by p.oid)
    from published p
   where p.oid = relation or not exists (select from published o where o.pubname = p.pubname and o.oid = relation)
   group by p.pubname order by p.pubname;
end;
-- +goose StatementEnd
comment on function realtime._sieves(oid) is 'What publications let of a table''s rows into the stream, one condition each, by their names. It means what it does under the search_path of the moment.';

-- +goose StatementBegin
create function realtime._snapshot_page(
    relation oid, key text[], last text[], role text, claims text, bypass_roles text[], wanted text[], most int, longest int, sieve text)
  returns table (refusal text, missing text, columns text[], texts text[], code text, reason text)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  target text;
  types  oid[] := array(
    select realtime._base_type(a.atttypid) from unnest(key) with ordinality as k (name, i) join pg_attribute a on a.attrelid = relation and a.attname = k.name order by k.i);
  names  text := (select string_agg(format('t.%I', name), ', ' order by i) from unnest(key) with ordinality as k (name, i));
  given  text[];  -- the key of the last row
  above  text[];  -- what is behind it, by each column of the key
  behind text;    -- and by all of them
  within text;    -- the schemas that the role finds names in
  plain  text[];  -- conditions on rows as they are given us
  sieves text[];  -- as they are to him
  query  text;
  done   boolean := false;
  worn   text;
begin
  refusal := realtime._role_refusal(role::name, bypass_roles);
  if refusal is not null then
    return next;
    return;
  end if;
  select case when relkind = 'p' then '' else 'only ' end || (pg_identify_object('pg_class'::regclass, relation, 0)).identity into target from pg_class where oid = relation;
  if target is null then
    code := '42P01'; reason := 'the table is not there';
    return next;
    return;
  end if;
  missing := realtime._missing_grant(role::name, relation, key);
  columns := array(select attname::text from pg_attribute
    where attrelid = relation and attnum > 0 and not attisdropped and has_column_privilege(role::name, relation, attnum, 'select') order by attnum);
  if missing is not null then
    return next;
    return;
  end if;
  for c in 1 .. coalesce(cardinality(last), 0) loop
    given[c] := format('%L::%s', last[c], realtime._type_name(types[c]));
    above[c] := realtime._operator(types[c], '>');
  end loop;
  if above[1] = all (above) then
    behind := format('(%s) %s (%s)', names, above[1], array_to_string(given, ', '));
  else  -- types of several schemas: there is no comparison of rows that names these
    for c in reverse coalesce(cardinality(last), 0) .. 1 loop
      behind := concat(format('t.%I %s %s', key[c], above[c], given[c]),
                       format(' or t.%I %s %s and (', key[c], realtime._operator(types[c], '='), given[c]) || behind || ')');
    end loop;
  end if;
  if sieve <> '' then
    plain := array(select s from realtime._sieves(relation) as s);
    begin
      within := realtime._users_schemas(role, claims);
    exception when others then
      code := sqlstate; reason := sqlerrm;
      return next;
      return;
    end;
    begin
      worn := set_config('search_path', within, true);
      sieves := array(select s from realtime._sieves(relation) as s);
      raise exception using errcode = 'RB001';
    exception when sqlstate 'RB001' then null;
    end;
    sieve := sieves[array_position(array(select replace(p, 'tableoid operator(pg_catalog.=) ', 'tableoid = ') from unnest(plain) with ordinality as u (p, i) order by u.i),
                                   replace(sieve, 'tableoid operator(pg_catalog.=) ', 'tableoid = '))];
    if sieve is null then
      code := '55000'; reason := 'the publication''s row filter is another by now';
      return next;
      return;
    end if;
  end if;
  query := format('select pg_catalog.array_agg(x.w) from (select array[%s] as w from %s as t %s order by %s limit %s) as x',
    (select string_agg(case when w.name = any (columns)
        then format('case when pg_catalog.num_nulls(t.%1$I) operator(pg_catalog.=) 0 then case when pg_catalog.octet_length(pg_catalog.concat(t.%1$I)) operator(pg_catalog.>) %2$s then %3$L else pg_catalog.concat(%4$L, t.%1$I) end end', w.name, longest, 'l', 'v')
        else 'null::pg_catalog.text' end, ', ' order by w.i) from unnest(wanted) with ordinality as w (name, i)),
    target,
    (select 'where ' || string_agg(format('(%s)', w), ' and ') from (values
      (nullif(sieve, '')),
      (behind)) as v (w) where w is not null),
    names, most);
  -- The block ends in an error, always: see _visible.
  begin
    worn := realtime._become('', role, claims, '{}');
    execute query into texts;
    done := true;
    raise exception using errcode = 'RB001';
  exception
    when query_canceled or lock_not_available then
      code := sqlstate; reason := sqlerrm;
    when assert_failure or others then
      if not done then
        code := sqlstate; reason := sqlerrm;
      end if;
  end;
  return next;
end $$;
-- +goose StatementEnd
comment on function realtime._snapshot_page(oid, text[], text[], text, text, text[], text[], int, int, text) is
  'The next rows that somebody sees of a table, in the order of its key, behind the one whose key is last, and for which the condition sieve holds: of each row the wanted columns, as v and the text; l of one longer than that; null for NULL and what the role may not read. refusal, missing, code: as in _visible.';

revoke execute on function realtime._sieves(oid), realtime._snapshot_page(oid, text[], text[], text, text, text[], text[], int, int, text) from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime._snapshot_page(oid, text[], text[], text, text, text[], text[], int, int, text);
drop function realtime._sieves(oid);
