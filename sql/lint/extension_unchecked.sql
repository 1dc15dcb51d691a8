-- hint: A policy for sending does not say for which extension.
-- A right to send is asked for twice, with extension broadcast and presence. Without a condition on extension, who may send
-- messages may also be present, and the other way round. Where both are meant, write extension in ('broadcast', 'presence').
select format('policy %I', p.polname), 'does not look at extension, so it gives broadcast and presence together',
       'add extension = ''broadcast'', or extension in (''broadcast'', ''presence'') where both are meant'
  from pg_policy p
 where p.polrelid = to_regclass('realtime.messages') and p.polpermissive and p.polcmd in ('a', '*')
   and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid)) not in ('true', 'false')
   and not exists (
     select from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refobjid = p.polrelid and a.attname = 'extension');
