-- hint: A policy asks for realtime.topic() and does not compare the column topic with it.
-- The server asks for a row of the topic in question. Who may run SQL as a token role can set the one and write another, and
-- so send where no policy lets him.
select format('policy %I', p.polname), 'asks for realtime.topic() and never looks at the column topic', 'add topic = realtime.topic()'
  from pg_policy p
 where p.polrelid = to_regclass('realtime.messages') and p.polpermissive
   and exists (
     select from pg_depend d
      where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass and d.refobjid = to_regprocedure('realtime.topic()'))
   and not exists (
     select from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refobjid = p.polrelid and a.attname = 'topic');
