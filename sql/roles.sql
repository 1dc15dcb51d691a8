-- Which of the roles $1 the server cannot put on, with the statement that mends it.
select case when pg_roles.oid is null then format('create role %I nologin; grant %I to %I;', wanted.name, wanted.name, current_user)
                         else format('grant %I to %I;', wanted.name, current_user) end
  from unnest($1::text[]) as wanted (name) left join pg_roles on pg_roles.rolname = wanted.name
 where pg_roles.oid is null or not pg_has_role(current_user, pg_roles.oid, 'member');
