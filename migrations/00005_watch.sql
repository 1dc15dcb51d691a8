-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- A change of a watched table is a hint to the server: ask the policies again. The hint can be forged by anyone who can
-- NOTIFY, so it carries nothing but whom to ask about.

-- +goose StatementBegin
create function realtime._mark(subject text, topic text, lenient boolean default false) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare aim text := json_strip_nulls(json_build_object('x', pg_current_xact_id()::text, 's', subject, 't', topic, 'l', nullif(lenient, false)));
begin
  if octet_length(aim) > 4000 then  -- NOTIFY takes 7999 bytes, and aborts the writer beyond that
    aim := json_build_object('x', pg_current_xact_id()::text);
  end if;
  perform realtime._say('r ' || aim, true);
end $$;
-- +goose StatementEnd
comment on function realtime._mark(text, text, boolean) is 'Tells the server, at COMMIT, to decide again; null means every subject, every topic. lenient: changes of this kind are so common that no message around them is withheld.';

-- Parts alternate: literal, column, literal, column, … A column that is null or gone makes the topic unknown.
create function realtime._fill(parts text[], source jsonb) returns text
  language sql immutable
  return (select case when bool_and(piece is not null) then string_agg(piece, '' order by place) end
            from (select place, case when place % 2 = 1 then part else source ->> part end as piece
                    from unnest(parts) with ordinality as p (part, place)) as pieces);
comment on function realtime._fill(text[], jsonb) is 'A topic template, split by watch(), filled with the columns of a row; null if one of them is null.';

-- One function for all watched tables, by column name through jsonb: a column renamed or dropped after watch() makes the
-- hint coarser. Code written for the table would be faster, and would make the user's own writes fail.
-- +goose StatementBegin
create function realtime._rights_changed() returns trigger
  language plpgsql security definer set search_path = '' as $$
declare
  subject_column pg_catalog.text := nullif(tg_argv[0], '');
  topic_parts    pg_catalog.text[] := tg_argv[1:];
  marks          int := case when current_setting('realtime.marks', true) ~ '^\d{1,6}$' then current_setting('realtime.marks')::int else 0 end;
  source         pg_catalog.jsonb;
begin
  if tg_level = 'STATEMENT' or marks >= 1000 then  -- too many to name: everyone
    perform realtime._mark(null, null);
    return null;
  end if;
  perform set_config('realtime.marks', (marks + 1)::pg_catalog.text, true);
  for pass in 1 .. 2 loop
    continue when pass = 1 and tg_op = 'INSERT' or pass = 2 and tg_op = 'DELETE';
    begin
      source := case pass when 1 then to_jsonb(old) else to_jsonb(new) end;
    exception when others then     -- a row too large for jsonb: whom it concerns is not known, so it concerns everyone
      source := '{}';
    end;
    perform realtime._mark(source ->> subject_column, realtime._fill(topic_parts, source), subject_column is null);
  end loop;
  return null;
end $$;
-- +goose StatementEnd
comment on function realtime._rights_changed() is 'The trigger that watch() installs. Arguments: the subject column (empty: every subject), then the topic template in parts.';

-- +goose StatementBegin
create function realtime._split(template text) returns text[]
  language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  parts text[] := '{}';
  rest  text := template;
  found text[];
begin
  loop
    found := regexp_match(rest, '^([^{}]*)\{([^{}]+)\}(.*)$');
    exit when found is null;
    parts := parts || found[1] || found[2];
    rest := found[3];
  end loop;
  if rest ~ '[{}]' then
    raise exception 'watch(): the topic template % has an unmatched brace', quote_literal(template) using errcode = '22023';
  end if;
  return parts || rest;
end $$;
-- +goose StatementEnd
comment on function realtime._split(text) is 'Splits a topic template such as room:{room_id} into literal, column, literal, column, …, literal.';

-- A table with its partitions: row triggers reach these by themselves, a TRUNCATE of one is seen by its own trigger alone.
-- +goose StatementBegin
create function realtime._truncatable(source regclass) returns setof regclass
  language sql stable
begin atomic
  select source union select relid from pg_partition_tree(source) join pg_class on oid = relid where relkind in ('r', 'p');
end;
-- +goose StatementEnd
comment on function realtime._truncatable(regclass) is 'The tables that watch() has to look after for TRUNCATE: this one and its partitions of today.';

-- +goose StatementBegin
create function realtime._watch_truncate(source regclass) returns void
  language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare part regclass;
begin
  for part in select realtime._truncatable(source) loop
    continue when not has_table_privilege(part, 'trigger');
    execute format('create or replace trigger zz_realtime_rights_truncate after truncate on %s for each statement execute function realtime._rights_changed()', part);
    if pg_has_role((select relowner from pg_class where oid = part), 'usage') then
      execute format('alter table %s enable always trigger zz_realtime_rights_truncate', part);
    end if;
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime._watch_truncate(regclass) is 'The part of watch() that is about TRUNCATE, of the table and of its partitions of today.';

-- +goose StatementBegin
create function realtime._watch(source regclass, subject name, topic text, columns name[], own boolean)
  returns void language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
#variable_conflict use_variable
declare
  parts     text[] := case when topic is not null then realtime._split(topic) else '{}' end;
  used      name[] := subject || array(select part::name from unnest(parts) with ordinality as p (part, place) where place % 2 = 0);
  owned     boolean := pg_has_role((select relowner from pg_class where oid = source), 'usage');
  kind      "char" := (select relkind from pg_class where oid = source);
  missing   name;
  arguments text;
  changed   text;
begin
  if source is null then
    raise exception 'watch(): no table given' using errcode = '22004';
  end if;
  if kind not in ('r', 'p') then
    raise exception 'watch(): % is not a table; watch the tables it reads from', source using errcode = '42809';
  end if;
  if (select relnamespace from pg_class where oid = source) = 'realtime'::regnamespace then
    raise exception 'watch(): % belongs to realtime itself and holds no rights', source using errcode = '42809';
  end if;
  if exists (select from pg_trigger where tgrelid = source and tgname = 'zz_realtime_rights' and tgparentid <> 0) then
    raise exception 'watch(): % is a partition of a watched table', source using errcode = '42809';
  end if;
  if not owned and exists (select from pg_trigger where tgrelid = source and tgname = 'zz_realtime_rights' and tgenabled = 'A') then
    raise exception 'watch(): % is watched by its owner already', source using errcode = '42501';
  end if;
  if subject like '{%' and not own then
    raise exception 'watch(): column % cannot name the subject: its name begins with a brace', quote_ident(subject) using errcode = '42602';
  end if;
  select c into missing from unnest(used || columns) as c
   where c is not null and not exists (select from pg_attribute where attrelid = source and attname = c and attnum > 0 and not attisdropped);
  if missing is not null then
    raise exception 'watch(): table % has no column %', source, quote_ident(missing) using errcode = '42703';
  end if;
  -- Marks name users and topics by their texts. Of these types equal values have one text, and the same in every session.
  with recursive typed as (
    select attname, attcollation, atttypid as type from pg_attribute where attrelid = source and attname = any (used)
    union all select attname, attcollation, typbasetype from typed join pg_type t on t.oid = type where typtype = 'd')
  select attname into missing from typed join pg_type t on t.oid = type left join pg_collation c on c.oid = attcollation
   where not (typtype in ('d', 'e') or type = any ('{bool,"\"char\"",int2,int4,int8,name,oid,text,uuid,varchar}'::regtype[])) or not collisdeterministic;
  if missing is not null then
    raise exception 'watch(): column % of % can name no subject and no topic: its equal values may be written in several ways', quote_ident(missing), source
      using errcode = '42804', hint = 'Leave it out. More sessions are then decided again than need be.';
  end if;

  select string_agg(quote_literal(a), ', ' order by place) into arguments
    from unnest(case when own then (array[subject] || columns)::text else coalesce(subject::text, '') end || parts) with ordinality as p (a, place);
  -- Compared as stored bytes (*<>), which every type has: json, for one, has no equality, and the user's UPDATE would
  -- fail on it; and text is not all there is to a float.
  select case when count(*) = 0 or own then 'old.* *<> new.*'
              else format('row(%s)::record *<> row(%s)::record', string_agg(format('old.%I', c), ', '), string_agg(format('new.%I', c), ', ')) end
    into changed
    from (select distinct c from unnest(used || columns) as c where c is not null and columns is not null) as listed;

  -- Names that sort last: the changes that earlier AFTER triggers make are in by then.
  execute format('create or replace trigger zz_realtime_rights after insert or delete on %s for each row execute function realtime._rights_changed(%s)', source, arguments);
  execute format('create or replace trigger zz_realtime_rights_update after update on %s for each row when (%s) execute function realtime._rights_changed(%s)', source, changed, arguments);
  -- Also when rows come by logical replication; only the owner may say so.
  if owned then
    execute format('alter table %s enable always trigger zz_realtime_rights, enable always trigger zz_realtime_rights_update', source);
  end if;
  perform realtime._watch_truncate(source);
  perform realtime._mark(null, null);  -- what changed before now was not seen
end $$;
-- +goose StatementEnd
comment on function realtime._watch(regclass, name, text, name[], boolean) is
  'What watch() does. own: for the server itself. Then no column is in a trigger''s condition, for what is in one can be neither dropped nor given another type; and the first argument of the triggers is an array: the subject column, and the columns that count.';

create function realtime.watch(source regclass, subject name default null, topic text default null, columns name[] default null)
  returns void language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$ begin perform realtime._watch(source, subject, topic, columns, false); end $$;
comment on function realtime.watch(regclass, name, text, name[]) is
  'A change of this table changes rights: sessions are decided again when it commits. subject: the column with the user id; topic: a template such as room:{room_id}; with both, only the sessions concerned are asked. columns: only an UPDATE that changes one of these (or a subject or topic column) counts. A second call replaces the first. For the table''s owner.';

-- +goose StatementBegin
create function realtime.unwatch(source regclass) returns void
  language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare part regclass;
begin
  if source is null then
    raise exception 'unwatch(): no table given' using errcode = '22004';
  end if;
  execute format('drop trigger if exists zz_realtime_rights on %s', source);
  execute format('drop trigger if exists zz_realtime_rights_update on %s', source);
  for part in select realtime._truncatable(source) loop
    execute format('drop trigger if exists zz_realtime_rights_truncate on %s', part);
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime.unwatch(regclass) is 'Ends watch(): changes of this table are no longer noticed. For the table''s owner.';

-- +goose StatementBegin
create function realtime.invalidate(subject text default null, topic text default null) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$ begin perform realtime._mark(subject, topic); end $$;
-- +goose StatementEnd
comment on function realtime.invalidate(text, text) is 'Decides these sessions again when the calling transaction commits; null: every subject, every topic.';

revoke execute on function realtime._fill(text[], jsonb), realtime.invalidate(text, text) from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime.invalidate(text, text);
drop function realtime.unwatch(regclass);
drop function realtime.watch(regclass, name, text, name[]);
drop function realtime._watch(regclass, name, text, name[], boolean);
drop function realtime._watch_truncate(regclass);
drop function realtime._truncatable(regclass);
drop function realtime._split(text);
-- The triggers on users' tables go with it.
drop function realtime._rights_changed() cascade;
drop function realtime._fill(text[], jsonb);
drop function realtime._mark(text, text, boolean);
