-- hint: A policy is for UPDATE or DELETE.
-- Rights on a channel are two: to receive is SELECT, to send is INSERT. A policy for another command is never asked.
select format('policy %I', p.polname), format('is for %s, which is no right on a channel', case p.polcmd when 'w' then 'UPDATE' else 'DELETE' end),
       format('drop policy %I on realtime.messages;', p.polname)
  from pg_policy p
 where p.polrelid = to_regclass('realtime.messages') and p.polcmd in ('w', 'd');
