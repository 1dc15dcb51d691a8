-- warning: A policy has no expression.
-- CREATE POLICY takes a policy without USING or WITH CHECK. A permissive one admits nobody then, and a restrictive one holds
-- nobody back.
select format('policy %I', p.polname),
       case when p.polpermissive then 'says nothing, so it admits nobody' else 'says nothing, so it holds nobody back' end,
       case p.polcmd when 'a' then format('alter policy %I on realtime.messages with check (…);', p.polname)
                     else format('alter policy %I on realtime.messages using (…);', p.polname) end
  from pg_policy p
 where p.polrelid = to_regclass('realtime.messages') and p.polqual is null and p.polwithcheck is null;
