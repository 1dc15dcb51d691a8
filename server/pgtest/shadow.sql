-- A schema hostile with a namesake of everything in pg_catalog: functions, aggregates, operators, types, relations. Whoever
-- finds one of these by a name without a schema is caught: it raises, and it is counted and listed also where that is
-- swallowed or undone. Run as superuser.
create schema hostile;
create sequence hostile.caught;
create table hostile.namesakes (n int generated always as identity, what text not null);

-- An advisory lock of the session is one of the few things that a ROLLBACK leaves behind.
create function hostile.catch(n int) returns boolean language plpgsql stable set search_path = pg_catalog, pg_temp security definer as $$
begin
  perform nextval('hostile.caught'), pg_advisory_lock_shared(1465012053, n);
  raise exception 'found in schema hostile: %', (select what from hostile.namesakes s where s.n = catch.n) using errcode = 'RB666';
end $$;

-- Of what the session that calls it finds before anything else, wherever its search_path leads: types and relations.
create function hostile.fill(schema name) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  one record;
  n   int;
begin
  for one in select typname, format('pg_catalog.%I', typname) as base from pg_type t
     where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'e') and typcategory <> 'A' loop
    begin
      insert into hostile.namesakes (what) values (format('type %s', one.typname)) returning namesakes.n into n;
      execute format('create domain %I.%I as %s check (hostile.catch(%s))', schema, one.typname, one.base, n);
    exception when others then null;  -- not everything can have one
    end;
  end loop;
  for one in select relname from pg_class where relnamespace = 'pg_catalog'::regnamespace and relkind in ('r', 'v') loop
    begin
      insert into hostile.namesakes (what) values (format('relation %s', one.relname)) returning namesakes.n into n;
      execute format('create view %1$I.%2$I as select * from pg_catalog.%2$I where hostile.catch(%3$s)', schema, one.relname, n);
    exception when others then null;
    end;
  end loop;
end $$;

do $$
declare
  one record;
  n   int;
begin
  perform set_config('search_path', 'pg_catalog', true);
  for one in
    -- "any" is for C alone. ORDER BY of an ordered-set aggregate is a list of arguments, too.
    select p.*, replace(replace(replace(pg_get_function_identity_arguments(p.oid), 'VARIADIC "any"', 'VARIADIC ' || instead || '[]'), '"any"', 'anyelement'), ' ORDER BY ', ', ') as arguments
      from pg_proc p join unnest(array['text', 'integer']) as instead on instead = 'text' or p.provariadic = '"any"'::regtype
     where pronamespace = 'pg_catalog'::regnamespace and prokind <> 'p' loop
    begin
      insert into hostile.namesakes (what) values (format('function %s(%s)', one.proname, one.arguments)) returning namesakes.n into n;
      execute format('create function hostile.%I(%s) returns %s%s language plpgsql as %L', one.proname, one.arguments, case when one.proretset then 'setof ' else '' end,
                     format_type(one.prorettype, null), format('begin perform hostile.catch(%s); end', n));
    exception when others then null;
    end;
  end loop;
  for one in
    select o.*, p.proname from pg_operator o join pg_proc p on p.oid = o.oprcode where o.oprnamespace = 'pg_catalog'::regnamespace loop
    begin
      execute format('create operator hostile.%s (%sfunction = hostile.%I, rightarg = %s)', one.oprname,
                     case when one.oprleft <> 0 then format('leftarg = %s, ', format_type(one.oprleft, null)) else '' end, one.proname, format_type(one.oprright, null));
    exception when others then null;
    end;
  end loop;
  perform hostile.fill('hostile');
end $$;

grant usage on schema hostile to public;
grant select, insert on all tables in schema hostile to public;
