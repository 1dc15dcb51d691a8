-- error: The server cannot put on a role of ALLOWED_ROLES.
-- A decision is made as the role in question. For that it has to exist, and the server's role has to be a member of it; from
-- Postgres 16 on, with the SET option.
with recursive settable (oid) as (
  select oid from pg_roles where rolname = current_user
  union
  -- set_option came with 16
  select m.roleid from settable s join pg_auth_members m on m.member = s.oid and coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
)
select format('role %I', wanted.name),
       case when r.oid is null then 'does not exist'
            when pg_has_role(r.oid, 'member') then format('is granted to %I, but without the SET option', current_user)
            else format('is not granted to %I', current_user) end,
       case when r.oid is null then format('create role %I nologin; grant %I to %I;', wanted.name, wanted.name, current_user)
            when pg_has_role(r.oid, 'member') then format('grant %I to %I with set true;', wanted.name, current_user)
            else format('grant %I to %I;', wanted.name, current_user) end
  from jsonb_array_elements_text($1::jsonb -> 'allowed_roles') as wanted (name)
  left join pg_roles r on r.rolname = wanted.name
 where r.oid is null
    or r.oid not in (select oid from settable) and not (select rolsuper from pg_roles where rolname = current_user);
