-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- What the policies on messages depend on, found in the catalogs: so that a change of it is noticed, whether it is one of
-- rows (a trigger) or one of definitions and privileges (the digest).

insert into realtime._settings values
  ('allowed_roles', '{anon,authenticated,service_role}'), ('watch', '{auto}'), ('recheck_interval', '{5s}')
  on conflict do nothing;

create table realtime._dependencies (
  classid  oid    not null,
  objid    oid    not null,
  how      text   not null check (how in ('traced', 'hint', 'observed')),
  opaque   text   check (opaque in ('body', 'language', 'clock', 'random', 'catalog', 'foreign table', 'materialized view', 'sequence')),
  policies text[] not null default '{}',
  primary key (classid, objid)
);
alter table realtime._dependencies enable row level security;
comment on table realtime._dependencies is 'What the policies on messages depended on when this was last found out; the digest is about these. Written by the server.';
comment on column realtime._dependencies.objid is 'Its oid in that catalog.';
comment on column realtime._dependencies.classid is 'The catalog, as in pg_depend: pg_class, pg_proc, or pg_policy.';
comment on column realtime._dependencies.how is 'traced: Postgres knows of it; hint: named in the text of a function; observed: a decision was seen to read it.';
comment on column realtime._dependencies.opaque is 'Why a change behind it cannot be seen; null: it can.';
comment on column realtime._dependencies.policies is 'The policies on messages that lead to it; none where it was only observed.';

create table realtime._discovery (
  one    boolean     primary key default true check (one),
  digest text        not null,
  xid    xid8        not null,
  at     timestamptz not null
);
alter table realtime._discovery enable row level security;
comment on table realtime._discovery is 'What was left behind when dependencies were last found out: by then, and seen by every snapshot that sees xid, all is watched that may be.';

create table realtime._watches (
  relid    oid     primary key,
  used     name[]  not null,
  reason   text,
  outgrown boolean not null default false
);
alter table realtime._watches enable row level security;
comment on table realtime._watches is 'Of the watches of the server''s own, what does not stand in their triggers.';
comment on column realtime._watches.used is 'The columns that the watch names; the digest is about these, as a trigger knows columns by their names.';
comment on column realtime._watches.reason is 'Why there is neither a subject nor a topic.';
comment on column realtime._watches.outgrown is 'Policies have changed so that another watch is due, which could not be put in its place yet: this one does not count.';

-- What the clock and chance are asked by, and catalogs, which have no dependency recorded.
create function realtime._unseen(text text, body boolean) returns text
  language sql immutable parallel safe
  return case
    when regexp_replace(text, '''([^'']|'''')*''', '', 'g') ~* '\m(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|age)"?\s*\(|\m(current_date|current_time|current_timestamp|localtime|localtimestamp)\M'
      or body and text ~* '''\s*(now|today|tomorrow|yesterday)\s*''' then 'clock'
    when regexp_replace(text, '''([^'']|'''')*''', '', 'g') ~* '\m(random|random_normal|gen_random_uuid|uuidv4|uuidv7|nextval|currval|lastval)"?\s*\(' then 'random'
    when text ~* '\m(information_schema|pg_(roles|user|users|group|authid|auth_members|class|namespace|tables|policies|policy|settings|locks|stat_\w+|proc|attribute))\M' then 'catalog'
  end;
comment on function realtime._unseen(text, boolean) is 'What an expression (or the body of a function) reads that changes without a trace; null: nothing that we know of.';

-- Names in a text, as they may be in a catalog.
-- +goose StatementBegin
create function realtime._names(text text, called boolean) returns setof name
  language sql immutable parallel safe
begin atomic
    select distinct unnest(array[m[1], lower(m[1]), m[2]])::name from regexp_matches(text, case when called
      then '([[:alpha:]_][[:alnum:]_$]*)"?\s*\(|"([^"]+)"\s*\(' else '([[:alpha:]_][[:alnum:]_$]*)|"([^"]+)"' end, 'g') as m;
end;
-- +goose StatementEnd
comment on function realtime._names(text, boolean) is 'The names in the text of a function; called: only those before a parenthesis.';

-- A body that names no way to read a table and only calls what we look into by itself: the helpers that read claims, say.
-- Only the owner's word stands for functions in C; they are those of extensions.
-- +goose StatementBegin
create function realtime._opaque(source oid) returns text
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare f record;
begin
  select p.prosrc, p.prosqlbody is not null as parsed, p.provolatile, l.lanname into f
    from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang where p.oid = source;
  return case
    when f.parsed then realtime._unseen(pg_get_function_sqlbody(source), false)
    when f.lanname = 'internal' or f.lanname = 'c' and f.provolatile = 'i' then null
    when f.lanname not in ('sql', 'plpgsql') then 'language'
    when f.prosrc ~* '\m(from|join|using|table|update|insert|delete|merge|copy|execute|perform|call|refresh)\M' then 'body'
    else realtime._unseen(f.prosrc, true)
  end;
end $$;
-- +goose StatementEnd
comment on function realtime._opaque(oid) is 'Why it cannot be seen what a function reads; null if it can.';

-- +goose StatementBegin
create function realtime._walk() returns table (classid oid, objid oid, how text, opaque text, policies text[])
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  with recursive walk (policy, classid, objid, how) as (
    select polname::text, 'pg_catalog.pg_policy'::regclass::oid, oid, 'traced' from pg_catalog.pg_policy
     where polrelid = 'realtime.messages'::regclass and polcmd in ('r', 'a', '*')
    union all  -- a trigger that keeps a probe out refuses as a policy does
    select tgname::text, 'pg_catalog.pg_proc'::regclass::oid, tgfoid, 'traced' from pg_catalog.pg_trigger
     where tgrelid = 'realtime.messages'::regclass and not tgisinternal and tgtype & 2 = 2
    union all
    select null, seen.classid, seen.objid, 'observed' from realtime._dependencies seen join pg_catalog.pg_class c on c.oid = seen.objid
     where seen.how = 'observed' and seen.classid = 'pg_catalog.pg_class'::regclass
    union
    select w.policy, n.classid, n.objid, case when n.hint and w.how = 'traced' then 'hint' else w.how end
      from walk w cross join lateral (
      -- expressions, bodies that Postgres has parsed, rules of views, operators, aggregates; but not a policy's own table
      select d.refclassid, d.refobjid, false from pg_catalog.pg_depend d
       where d.classid = w.classid and d.objid = w.objid and w.classid <> 'pg_catalog.pg_class'::regclass
         and d.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
         and d.deptype in ('n', 'a', 'i') and not (w.classid = 'pg_catalog.pg_policy'::regclass and d.deptype = 'a')
      union all select 'pg_catalog.pg_rewrite'::regclass, r.oid, false from pg_catalog.pg_rewrite r join pg_catalog.pg_class v on v.oid = r.ev_class
       where w.classid = 'pg_catalog.pg_class'::regclass and r.ev_class = w.objid and v.relkind = 'v'
      -- of a table that is read, who may read what
      union all select 'pg_catalog.pg_policy'::regclass, p.oid, false from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
       where w.classid = 'pg_catalog.pg_class'::regclass and p.polrelid = w.objid and c.relrowsecurity and p.polcmd in ('r', '*')
      union all select 'pg_catalog.pg_class'::regclass, i.inhrelid, false from pg_catalog.pg_inherits i
       where w.classid = 'pg_catalog.pg_class'::regclass and i.inhparent = w.objid
      -- bodies that are text: what they call, and where they may read, what they name
      union all select 'pg_catalog.pg_proc'::regclass, called.oid, true
        from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang, realtime._names(p.prosrc, true) as word
        join pg_catalog.pg_proc called on called.proname = word and called.oid >= 16384
       where w.classid = 'pg_catalog.pg_proc'::regclass and p.oid = w.objid and p.prosqlbody is null and l.lanname in ('sql', 'plpgsql')
      union all select 'pg_catalog.pg_class'::regclass, c.oid, true
        from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang, realtime._names(p.prosrc, false) as word
        join pg_catalog.pg_class c on c.relname = word and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid >= 16384 and c.relpersistence <> 't'
       where w.classid = 'pg_catalog.pg_proc'::regclass and p.oid = w.objid and p.prosqlbody is null and l.lanname in ('sql', 'plpgsql')
         and realtime._opaque(p.oid) = 'body'
    ) as n (classid, objid, hint)
    -- 16384: below are the system's own, for which nothing is recorded. What is ours holds no rights, and is not looked into.
    where n.objid >= 16384
      and not exists (select from pg_catalog.pg_class c where w.classid = 'pg_catalog.pg_class'::regclass and c.oid = w.objid and c.relnamespace = 'realtime'::regnamespace)
      and not exists (select from pg_catalog.pg_proc p where w.classid = 'pg_catalog.pg_proc'::regclass and p.oid = w.objid and p.pronamespace = 'realtime'::regnamespace)
  ), found as (
    select w.classid, w.objid,
           case min(case w.how when 'traced' then 1 when 'hint' then 2 else 3 end) when 1 then 'traced' when 2 then 'hint' else 'observed' end as how,
           coalesce(array_agg(distinct w.policy order by w.policy) filter (where w.policy is not null), '{}') as policies
      from walk w group by w.classid, w.objid
  )
  select f.classid, f.objid, f.how, case c.relkind when 'f' then 'foreign table' when 'm' then 'materialized view' when 'S' then 'sequence'
           when 'v' then realtime._unseen(pg_get_viewdef(c.oid), false) end, f.policies
    from found f join pg_catalog.pg_class c on f.classid = 'pg_catalog.pg_class'::regclass and c.oid = f.objid
   where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relnamespace <> 'realtime'::regnamespace
  union all
  select f.classid, f.objid, f.how, case when p.pronamespace <> 'realtime'::regnamespace then realtime._opaque(p.oid) end, f.policies
    from found f join pg_catalog.pg_proc p on f.classid = 'pg_catalog.pg_proc'::regclass and p.oid = f.objid
  union all  -- of policies, those that are opaque themselves
  select o.* from (
    select f.classid, f.objid, f.how, realtime._unseen(concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), false) as opaque, f.policies
      from found f join pg_catalog.pg_policy p on f.classid = 'pg_catalog.pg_policy'::regclass and p.oid = f.objid
    offset 0  -- else the text of every policy of the database is looked into, found or not
  ) as o where o.opaque is not null;
end $$;
-- +goose StatementEnd
comment on function realtime._walk() is 'What the policies on messages depend on at this moment, through views, functions, operators, partitions, and the policies of the tables that they read. What was observed is taken from _dependencies.';

-- plpgsql with one plan for arrays of any length, which a session keeps: making one for each digest took two thirds of its
-- time. And one that looks up what the arrays name, also where a catalog is so small that reading it all seems cheaper.
-- +goose StatementBegin
create function realtime._digest() returns text
  language plpgsql stable set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
  rels    oid[];
  procs   oid[];
  schemas oid[];
  roles   oid[];
  parts   oid[] := 'realtime.messages'::regclass::oid || array(select inhrelid from pg_catalog.pg_inherits where inhparent = 'realtime.messages'::regclass);
begin
  select coalesce(array_agg(objid) filter (where classid = 'pg_catalog.pg_class'::regclass), '{}') || 'realtime.messages'::regclass::oid,
         coalesce(array_agg(objid) filter (where classid = 'pg_catalog.pg_proc'::regclass), '{}')
    into rels, procs from realtime._dependencies;
  select array_agg(owner), array_agg(schema) into roles, schemas from (
    select relowner, relnamespace from pg_catalog.pg_class where oid = any (rels) union select proowner, pronamespace from pg_catalog.pg_proc where oid = any (procs)
  ) as o (owner, schema);
  -- Those who ask, those by whose rights functions and views read, and the server; with all that they are members of.
  with recursive role as (
    select oid from pg_catalog.pg_roles
     where rolname = any ((select value from realtime._settings where name = 'allowed_roles')::name[]) or oid = any (roles)
    union select m.roleid from role join pg_catalog.pg_auth_members m on m.member = role.oid
  ) select array_agg(oid) into roles from role;
  return (
    select encode(sha256(convert_to(string_agg(key, ' ' order by key), 'UTF8')), 'hex') from (
      -- xmin is another after every change, and is left alone by VACUUM FULL and the like. Not so that of pg_class.
      select 'p ' || oid || ' ' || xmin from pg_catalog.pg_policy where polrelid = any (rels)
      union all select 'f ' || oid || ' ' || xmin from pg_catalog.pg_proc where oid = any (procs)
      union all select 'v ' || oid || ' ' || xmin from pg_catalog.pg_rewrite where ev_class = any (rels)
      union all select 't ' || oid || ' ' || xmin from pg_catalog.pg_trigger where tgrelid = any (rels)
         and (tgname like 'zz\_realtime\_rights%' or tgrelid = 'realtime.messages'::regclass and not tgisinternal)
      union all select 'c ' || row(oid, relname, relnamespace, relkind, relowner, relrowsecurity, relforcerowsecurity, relacl,
           case when relkind = 'v' then reloptions end)::text from pg_catalog.pg_class where oid = any (rels)
      union all select 'a ' || row(attrelid, attnum, attacl)::text from pg_catalog.pg_attribute where attrelid = any (rels) and attacl is not null
      -- but not the partitions of messages: nobody's rights go by them, and there is another every day
      union all select 'i ' || row(inhparent, inhrelid, inhdetachpending)::text from pg_catalog.pg_inherits
         where inhparent = any (rels) and inhparent <> 'realtime.messages'::regclass
      -- A trigger knows columns by name, a policy by number: a name may come to be another column's.
      union all select 'w ' || (select row(a.attrelid, a.attnum, a.attname, a.atttypid, a.attcollation)::text from pg_catalog.pg_attribute a where a.attrelid = w.relid and a.attname = column_)
        from realtime._watches w cross join lateral unnest(w.used) as u (column_) where w.relid = any (rels)
      -- Checks, NOT NULL and generated columns of others on messages; and triggers of its partitions. Nothing that is inherited.
      union all select 'k ' || oid || ' ' || xmin from pg_catalog.pg_constraint
         where conrelid = any (parts) and contype = 'c' and coninhcount = 0 and conname not in ('messages_probe', 'messages_payload_exclusive')
      union all select 'k ' || row(attnum, attnotnull, attgenerated)::text from pg_catalog.pg_attribute
         where attrelid = 'realtime.messages'::regclass and attnum > 0
           and (attgenerated <> '' or attnotnull and attname not in ('topic', 'extension', 'updated_at', 'inserted_at', 'id'))
      union all select 't ' || oid || ' ' || xmin from pg_catalog.pg_trigger
         where tgrelid = any (parts) and tgrelid <> 'realtime.messages'::regclass and not tgisinternal and tgparentid = 0
      union all select 'n ' || oid || ' ' || xmin from pg_catalog.pg_namespace where oid = any (schemas)
      union all select 'r ' || row(oid, rolname, rolsuper, rolinherit, rolbypassrls)::text from pg_catalog.pg_roles where oid = any (roles)
      union all select 'm ' || roleid || ' ' || member || ' ' || xmin from pg_catalog.pg_auth_members where member = any (roles)
      union all select 'd ' || classid || ' ' || objid from realtime._dependencies
      union all select 's ' || value::text from realtime._settings where name = 'allowed_roles'
    ) as keys (key));
end $$;
-- +goose StatementEnd
comment on function realtime._digest() is 'Of everything in the catalogs that the rights on messages depend on. It changes with policies, privileges, functions, roles, ownership, triggers and partitions, and not with rows or upkeep.';

-- A session keeps the plans of its decisions, with the policies that applied to a role by its memberships and attributes.
-- Postgres makes them anew when a policy changes, but not when a role does. So a session remembers by which digest it has
-- planned. (In a setting, which is also gone where a pooler discards all of a session, plans included.)
-- +goose StatementBegin
create function realtime._plan_anew() returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('realtime.planned', true) = (select digest from realtime._discovery) then return false; end if;
  discard plans;
  return true;
end $$;
-- +goose StatementEnd
comment on function realtime._plan_anew() is 'Before a decision: forgets what this session has planned, unless that was after the last discovery; true if so. Always, where nothing is discovered.';

-- +goose StatementBegin
create function realtime._digest_after(out digest text, out planned boolean)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  digest := realtime._digest();
  planned := digest is not distinct from current_setting('realtime.planned', true);
  if not planned then
    discard plans;
    perform set_config('realtime.planned', digest, false);
  end if;
end $$;
-- +goose StatementEnd
comment on function realtime._digest_after() is 'After a decision, in a transaction of its own: the digest, and whether this session had planned nothing by another.';

-- +goose StatementBegin
create function realtime._watched(source oid) returns text
  language sql stable parallel safe
  return (
    select case when count(distinct tgname) = 0 then null
                when count(distinct tgname) filter (where tgenabled in ('O', 'A')) < count(distinct tgname) then 'disabled'
                when count(distinct tgname) < 3 then 'in part'
                when bool_and(tgenabled = 'A') then 'always'
                when exists (select from pg_catalog.pg_subscription_rel where srrelid = source) then 'not replicated'
                else 'yes' end
      from pg_catalog.pg_trigger
     where tgrelid = source and tgname in ('zz_realtime_rights', 'zz_realtime_rights_update', 'zz_realtime_rights_truncate'));
-- +goose StatementEnd
comment on function realtime._watched(oid) is 'How far a table has the triggers of watch(): always, yes, in part (not those for TRUNCATE, say), disabled, not replicated (rows come by a subscription, which does not fire them); null: it has none.';

-- The arguments stand in the catalog one behind the other, each with a zero byte at its end; a text cannot hold that.
create function realtime._arguments(number int, arguments bytea) returns text[]
  language sql stable parallel safe
  return (
    select coalesce(array_agg(convert_from(decode(replace(piece, ' ', ''), 'hex'), getdatabaseencoding()) order by place), '{}')
      from unnest(string_to_array(regexp_replace(encode(arguments, 'hex'), '(..)', '\1 ', 'g'), '00 ')) with ordinality as p (piece, place)
     where place <= number);
comment on function realtime._arguments(int, bytea) is 'The arguments of a trigger.';

-- +goose StatementBegin
create function realtime._in_force(source oid, out own boolean, out subject text, out topic text, out columns text[], out used text[])
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  arguments text[];
  head      text[];
begin
  select realtime._arguments(tgnargs, tgargs) into arguments from pg_catalog.pg_trigger where tgrelid = source and tgname = 'zz_realtime_rights';
  if not found then return; end if;
  own := arguments[1] like '{%';
  head := case when own then arguments[1]::text[] else array[nullif(arguments[1], '')] end;
  subject := head[1];
  columns := nullif(head[2:], '{}');
  topic := (select string_agg(case place % 2 when 1 then part else '{' || part || '}' end, '' order by place) from unnest(arguments[2:]) with ordinality as p (part, place));
  used := array(select distinct c from unnest(head || array(select part from unnest(arguments[2:]) with ordinality as p (part, place) where place % 2 = 0)) as c where c is not null order by c);
end $$;
-- +goose StatementEnd
comment on function realtime._in_force(oid) is 'How a table is watched, by its triggers. own: by the server itself; null: not at all.';

-- What was left behind counts only if nothing was changed meanwhile: the last look at the catalogs and the digest are of one
-- snapshot, in which the dependencies are still those that the digest is about.
-- +goose StatementBegin
create function realtime._discover(force boolean) returns table (digest text, xid text)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  before realtime._discovery;
  now_   text;
  same   boolean;
begin
  perform pg_advisory_xact_lock(hashtextextended('rowcast.discover', 0));
  delete from realtime._discovery d where d.xid >= pg_snapshot_xmax(pg_current_snapshot());  -- a dump of another cluster brought it
  select * into before from realtime._discovery;
  if not force and before.digest = realtime._digest() then  -- another server was quicker
    return query select before.digest, before.xid::text;
    return;
  end if;
  for i in 1 .. 5 loop
    with walk as materialized (select * from realtime._walk()),
         gone as (delete from realtime._dependencies d where not exists (select from walk w where w.classid = d.classid and w.objid = d.objid))
    insert into realtime._dependencies as d select * from walk
      on conflict (classid, objid) do update set how = excluded.how, opaque = excluded.opaque, policies = excluded.policies
        where (d.how, d.opaque, d.policies) is distinct from (excluded.how, excluded.opaque, excluded.policies);
    if not exists (select from realtime._dependencies d where d.opaque is not null) then  -- then there was nothing to observe
      delete from realtime._dependencies d where d.how = 'observed';
    end if;
    select realtime._digest(), not exists (
        select from realtime._walk() w full join realtime._dependencies d on d.classid = w.classid and d.objid = w.objid
         where (w.how, w.opaque, w.policies) is distinct from (d.how, d.opaque, d.policies))
      into now_, same;
    exit when same;
  end loop;
  if not same then
    raise exception 'what the policies on realtime.messages depend on changes without pause' using errcode = '40001';
  end if;
  if before.digest is distinct from now_ then
    insert into realtime._discovery as d (digest, xid, at) values (now_, pg_current_xact_id(), now())
      on conflict (one) do update set digest = excluded.digest, xid = excluded.xid, at = excluded.at;
    before.digest := now_; before.xid := pg_current_xact_id();
  end if;
  return query select before.digest, before.xid::text;
end $$;
-- +goose StatementEnd
comment on function realtime._discover(boolean) is 'Finds out what the policies on messages depend on now, unless the digest says that it is known, and gives the digest and the transaction that a decision must have seen. force: in any case. One at a time.';

-- +goose StatementBegin
create function realtime._observed(oids oid[]) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  insert into realtime._dependencies (classid, objid, how)
    select 'pg_catalog.pg_class'::regclass, c.oid, 'observed' from pg_catalog.pg_class c
     where c.oid = any (oids) and c.oid >= 16384 and c.relkind in ('r', 'p', 'm', 'f') and c.relpersistence <> 't'
       and c.relnamespace not in (select n.oid from pg_catalog.pg_namespace n where n.nspname in ('realtime', 'pg_toast'))
     limit 1000
    on conflict do nothing;
  return found;
end $$;
-- +goose StatementEnd
comment on function realtime._observed(oid[]) is 'Notes relations that decisions were seen to read; true if one was not known. They are forgotten when nothing is opaque any more.';

-- +goose StatementBegin
create function realtime._to_watch() returns table (source oid, name text, schema text, relation text, own boolean, current boolean, subject text, topic text, columns text[], reason text)
  language sql stable
begin atomic
    select c.oid, format('%I.%I', n.nspname, c.relname), n.nspname::text, c.relname::text, coalesce(f.own, false), coalesce(not w.outgrown and w.used::text[] = f.used, false), coalesce(f.subject, ''), coalesce(f.topic, ''), f.columns, coalesce(w.reason, '')
      from realtime._dependencies d join pg_catalog.pg_class c on c.oid = d.objid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      cross join lateral realtime._in_force(c.oid) f left join realtime._watches w on w.relid = c.oid
     where d.classid = 'pg_catalog.pg_class'::regclass and c.relkind in ('r', 'p')
       and (f.own and realtime._watched(c.oid) <> 'disabled' and exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgname = 'zz_realtime_rights' and t.tgparentid = 0)
         or has_table_privilege(c.oid, 'trigger') and has_schema_privilege(n.oid, 'usage')
           and (realtime._watched(c.oid) is null
              -- a partition has its triggers from its parent, but for TRUNCATE
              and not exists (select from pg_catalog.pg_inherits i join realtime._dependencies p on p.classid = 'pg_catalog.pg_class'::regclass and p.objid = i.inhparent
                               where i.inhrelid = c.oid and c.relispartition)
            or realtime._watched(c.oid) = 'in part'
              and not exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgname = 'zz_realtime_rights_truncate')))
     order by 2;
end;
-- +goose StatementEnd
comment on function realtime._to_watch() is 'The tables that rights depend on, that nobody watches, and that this role may watch; and those that the server watches by itself (own), with how it does. current: what is noted of the watch is true, and it has not been outgrown.';

-- +goose StatementBegin
create function realtime._to_unwatch() returns table (source oid, name text)
  language sql stable
begin atomic
    select c.oid, format('%I.%I', n.nspname, c.relname)
      from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where t.tgname = 'zz_realtime_rights' and t.tgparentid = 0 and t.tgfoid = 'realtime._rights_changed()'::regprocedure and (realtime._in_force(c.oid)).own
       and not exists (select from realtime._dependencies d where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid)
     order by 2;
end;
-- +goose StatementEnd
comment on function realtime._to_unwatch() is 'The tables that the server watches by itself though no right depends on them any more.';

-- +goose StatementBegin
create function realtime._watch_found(source oid, subject name, topic text, columns name[], reason text) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare f record;
begin
  select * into f from realtime._in_force(source);
  if not f.own or f.own and (f.subject, f.topic, f.columns) is not distinct from (subject::text, topic, columns::text[]) then
    if realtime._watched(source) = 'in part' then  -- else whoever watches it knows best how
      perform realtime._watch_truncate(source::regclass);
    end if;
  else
    perform realtime._watch(source::regclass, subject, topic, columns, true);
    select * into f from realtime._in_force(source);
  end if;
  insert into realtime._watches as w (relid, used, reason) select source, f.used::name[], reason where f.own
    on conflict (relid) do update set used = excluded.used, reason = excluded.reason, outgrown = false;
  return f.own;
end $$;
-- +goose StatementEnd
comment on function realtime._watch_found(oid, name, text, name[], text) is 'Watches a table that the server has found rights to depend on; its own watch is replaced by another; one of somebody else''s is only completed, and then it is false.';

-- +goose StatementBegin
create function realtime._outgrown(source oid) returns void
  language sql
begin atomic
    insert into realtime._watches (relid, used, outgrown) values (source, coalesce((realtime._in_force(source)).used, '{}')::name[], true)
      on conflict (relid) do update set outgrown = true;
end;
-- +goose StatementEnd
comment on function realtime._outgrown(oid) is 'Says that a watch of the server''s own does not count: another is due.';

-- +goose StatementBegin
create function realtime._unwatch_found(source oid) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from realtime._to_unwatch() t where t.source = _unwatch_found.source) then
    perform realtime.unwatch(source::regclass);
  end if;
  delete from realtime._watches where relid = source;
end $$;
-- +goose StatementEnd
comment on function realtime._unwatch_found(oid) is 'Ends what _watch_found() began; needs ownership of the table.';

create view realtime.watched as
  with server as (
    select r.oid, r.rolname, (select value[1] from realtime._settings where name = 'watch') as watch,
           (select value[1] from realtime._settings where name = 'recheck_interval') is not null as rechecks
      from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner where c.oid = 'realtime.messages'::regclass
  ), found as (
    select w.*, case when w.classid = 'pg_catalog.pg_class'::regclass then realtime._watched(w.objid) end as state from realtime._walk() w
  ), named as (
    select f.*, n.oid as schema, format('%I.%I', n.nspname, c.relname) as object,
           case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' when 'S' then 'sequence' else 'table' end as kind
      from found f join pg_catalog.pg_class c on f.classid = 'pg_catalog.pg_class'::regclass and c.oid = f.objid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    union all
    select f.*, n.oid, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), 'function'
      from found f join pg_catalog.pg_proc p on f.classid = 'pg_catalog.pg_proc'::regclass and p.oid = f.objid join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    union all
    select f.*, n.oid, format('%I on %I.%I', p.polname, n.nspname, c.relname), 'policy'
      from found f join pg_catalog.pg_policy p on f.classid = 'pg_catalog.pg_policy'::regclass and p.oid = f.objid
      join pg_catalog.pg_class c on c.oid = p.polrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  )
  select object, kind, how, opaque, policies,
         noticed_by in ('trigger', 'digest') as noticed, noticed_by,
         subject, topic, case when own and subject is null and topic is null then reason end as reason,
         case when outgrown then format('select realtime.watch(%L);', object)
              when kind <> 'table' or state = 'always' then null
              when state in ('yes', 'disabled', 'not replicated') then
                format('alter table %s enable always trigger zz_realtime_rights, enable always trigger zz_realtime_rights_update, enable always trigger zz_realtime_rights_truncate;', object)
              else coalesce(case watch when 'auto' then nullif(concat_ws(' ',
                  case when not has_schema_privilege(server, schema, 'usage') then (select format('grant usage on schema %I to %I;', nspname, rolname) from pg_catalog.pg_namespace where oid = schema) end,
                  case when not has_table_privilege(server, objid, 'trigger') then format('grant trigger on %s to %I;', object, rolname) end), '') end,
                format('select realtime.watch(%L);', object)) end as mend
    from (
      select n.*, s.oid as server, s.rolname, s.watch, f.own, f.subject, f.topic, w.reason, f.own and coalesce(w.outgrown, false) as outgrown, case
          when n.kind = 'table' and n.state in ('always', 'yes') and not (f.own and coalesce(w.outgrown, false)) then 'trigger'
          when n.kind <> 'table' and n.opaque is null and s.watch <> 'off' then 'digest'
          when s.watch <> 'off' and s.rechecks then 'timer'
          else 'nothing' end as noticed_by
        from named n cross join server s
        left join lateral realtime._in_force(n.objid) f on n.kind = 'table' left join realtime._watches w on n.kind = 'table' and w.relid = n.objid
    ) as judged
   order by noticed_by in ('trigger', 'digest'), kind, object;
comment on view realtime.watched is 'Every table and function that the policies on messages depend on at this moment, and whether a change of it is noticed. Needs no server to be running.';
comment on column realtime.watched.object is 'With its schema; a policy with its table.';
comment on column realtime.watched.kind is 'table, view, materialized view, foreign table, sequence, function; policy: one that is opaque itself.';
comment on column realtime.watched.how is 'How it was found. traced: Postgres knows of it; hint: the text of a function names it; observed: a decision was seen to read it.';
comment on column realtime.watched.opaque is 'Why changes behind it cannot be seen: body (a string that may read tables), language, clock (valid_until() is not one), random, catalog, foreign table, materialized view, sequence; null: they can. What an opaque function reads is found by observation and watched, but nobody can tell whether it is all.';
comment on column realtime.watched.policies is 'The policies on messages that lead to it.';
comment on column realtime.watched.noticed is 'Whether sessions are decided again because of a change: at once, or within RIGHTS_POLL_INTERVAL.';
comment on column realtime.watched.noticed_by is 'trigger: when the change commits; digest: within RIGHTS_POLL_INTERVAL, as a change of definitions; timer: not noticed, but all sessions are decided again every RECHECK_INTERVAL; nothing.';
comment on column realtime.watched.subject is 'The column with the user''s id: a change of a row concerns these users alone. By the server''s own proposal, or by watch().';
comment on column realtime.watched.topic is 'The template of the topics that a change of a row concerns.';
comment on column realtime.watched.reason is 'Why the server''s own watch has neither, so that a change of a row has everybody decided again.';
comment on column realtime.watched.mend is 'The statement after which a change is noticed at once. Of a table that is watched: after which it is also when rows come by logical replication.';

-- An event trigger, where a superuser installs one: then a change of definitions is noticed at its COMMIT, before what is
-- sent after it, instead of within RIGHTS_POLL_INTERVAL.
-- +goose StatementBegin
create function realtime._ddl_changed() returns event_trigger
  language plpgsql security definer set search_path = '' as $$
begin
  if to_regclass('realtime._discovery') is null then return; end if;  -- this schema is being taken down
  if realtime._digest() is distinct from (select digest from realtime._discovery) then
    perform realtime._changed(null, null, false);
  end if;
end $$;
-- +goose StatementEnd
comment on function realtime._ddl_changed() is 'For event triggers: has everybody decided again if this transaction changes what rights depend on.';

-- +goose StatementBegin
do $$ begin
  create event trigger realtime_rights on ddl_command_end when tag in (
      'CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'GRANT', 'REVOKE', 'CREATE TABLE', 'ALTER TABLE', 'DROP TABLE', 'ALTER SCHEMA', 'DROP SCHEMA',
      'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE RULE', 'DROP RULE', 'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'ALTER ROUTINE', 'DROP ROUTINE',
      'CREATE TRIGGER', 'ALTER TRIGGER', 'DROP TRIGGER', 'DROP OWNED')
    execute function realtime._ddl_changed();
exception when insufficient_privilege then null;  -- as for every ordinary role
end $$;
-- +goose StatementEnd

revoke execute on function
  realtime._unseen(text, boolean), realtime._names(text, boolean), realtime._opaque(oid), realtime._walk(), realtime._digest(), realtime._plan_anew(), realtime._digest_after(), realtime._watched(oid),
  realtime._discover(boolean), realtime._observed(oid[]), realtime._to_watch(), realtime._to_unwatch(), realtime._watch_found(oid, name, text, name[], text), realtime._unwatch_found(oid),
  realtime._arguments(int, bytea), realtime._in_force(oid), realtime._outgrown(oid),
  realtime._ddl_changed()
  from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- First, and the event trigger with it: it would look for what is dropped next.
drop function realtime._ddl_changed() cascade;
drop view realtime.watched;
drop function realtime._unwatch_found(oid);
drop function realtime._outgrown(oid);
drop function realtime._watch_found(oid, name, text, name[], text);
drop function realtime._to_unwatch();
drop function realtime._to_watch();
drop function realtime._observed(oid[]);
drop function realtime._discover(boolean);
drop function realtime._in_force(oid);
drop function realtime._arguments(int, bytea);
drop function realtime._watched(oid);
drop function realtime._digest_after();
drop function realtime._plan_anew();
drop function realtime._digest();
drop function realtime._walk();
drop function realtime._opaque(oid);
drop function realtime._names(text, boolean);
drop function realtime._unseen(text, boolean);
drop table realtime._watches;
drop table realtime._discovery;
drop table realtime._dependencies;
delete from realtime._settings where name in ('allowed_roles', 'watch', 'recheck_interval');
