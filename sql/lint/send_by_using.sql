-- warning: A policy FOR ALL has no WITH CHECK.
-- Its USING then says who may send as well as who may receive: whoever was meant to listen may talk. CREATE POLICY without
-- FOR makes a policy FOR ALL.
select format('policy %I', p.polname), 'is FOR ALL and has no WITH CHECK: who may receive by it may send',
       format('drop policy %1$I on realtime.messages;  -- and create it FOR SELECT; who may send is said by a policy FOR INSERT', p.polname)
  from pg_policy p
 where p.polrelid = to_regclass('realtime.messages') and p.polpermissive and p.polcmd = '*' and p.polwithcheck is null;
