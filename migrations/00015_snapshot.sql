-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- The rows that are there, for those who want them before they are told of changes: page by page in the order of the key, each
-- read as the user, in a snapshot that the server holds.

-- +goose StatementBegin
create function realtime._snapshot_page(
    relation oid, key text[], last text[], role text, claims text, bypass_roles text[], wanted text[], most int, longest int, sieve text)
  returns table (refusal text, missing text, columns text[], texts text[], code text, reason text)
  language plpgsql as $$
#variable_conflict use_variable
declare
  target text;
  types  oid[] := array(
    select realtime._base_type(a.atttypid) from unnest(key) with ordinality as k (name, i) join pg_attribute a on a.attrelid = relation and a.attname = k.name order by k.i);
  names  text := (select string_agg(format('t.%I', name), ', ' order by i) from unnest(key) with ordinality as k (name, i));
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
  query := format('select array_agg(x.w) from (select array[%s] as w from %s as t %s order by %s limit %s) as x',
    (select string_agg(case when w.name = any (columns)
        then format('case when num_nulls(t.%1$I) = 0 then case when octet_length(concat(t.%1$I)) > %2$s then %3$L else %4$L || concat(t.%1$I) end end', w.name, longest, 'l', 'v')
        else 'null::text' end, ', ' order by w.i) from unnest(wanted) with ordinality as w (name, i)),
    target,
    (select 'where ' || string_agg(format('(%s)', w), ' and ') from (values
      (nullif(sieve, '')),
      (case when cardinality(last) > 0 then format('(%s) > (%s)', names,
         (select string_agg(format('%L::%s', last[c], realtime._type_name(types[c])), ', ' order by c) from generate_subscripts(key, 1) as c)) end)) as v (w) where w is not null),
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

revoke execute on function realtime._snapshot_page(oid, text[], text[], text, text, text[], text[], int, int, text) from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime._snapshot_page(oid, text[], text[], text, text, text[], text[], int, int, text);
