-- warning: A permissive policy lets everybody who has a role receive on every topic.
-- Permissive policies are joined with OR: beside one whose USING is true, no other has a say. Where that is meant, a public
-- channel costs less.
select format('policy %I', p.polname),
       format('lets %s receive on every topic, whatever other permissive policies say',
              case when 0 = any (p.polroles) then 'everybody' else (select string_agg(format('%I', rolname), ', ' order by rolname) from pg_roles where oid = any (p.polroles)) end),
       format('drop policy %I on realtime.messages;  -- or compare topic with realtime.topic() and say who may', p.polname)
  from pg_policy p
 where p.polrelid = to_regclass('realtime.messages') and p.polpermissive and p.polcmd in ('r', '*')
   and pg_get_expr(p.polqual, p.polrelid) = 'true'
   and (0 = any (p.polroles) or exists (
         select from pg_roles r
          where $1::jsonb -> 'allowed_roles' ? r.rolname and not $1::jsonb -> 'bypass_roles' ? r.rolname and not r.rolsuper
            and exists (select from unnest(p.polroles) as granted (oid) where pg_has_role(r.oid, granted.oid, 'usage'))));
