-- warning: A policy is for roles that no token may name.
-- A token's role must be in ALLOWED_ROLES. A policy that is TO other roles is asked for nobody, unless one that is allowed
-- inherits from them.
select format('policy %I', p.polname), format('is to %s, which no token may name', string_agg(format('%I', r.rolname), ', ' order by r.rolname)),
       format('alter policy %I on realtime.messages to …;  -- or add the role to ALLOWED_ROLES', p.polname)
  from pg_policy p
  join pg_roles r on r.oid = any (p.polroles)
 where p.polrelid = to_regclass('realtime.messages')
   and not exists (
     select from pg_roles allowed
      where $1::jsonb -> 'allowed_roles' ? allowed.rolname
        and exists (select from unnest(p.polroles) as named (oid) where named.oid = 0 or pg_has_role(allowed.oid, named.oid, 'usage')))
 group by p.oid, p.polname;
