-- hint: Policies use auth.uid(), which is an error for a user id that is no uuid.
-- Some identity providers give ids of another form (auth0|…, user_…). Every decision about such a user then fails in every policy
-- that calls auth.uid(), and is a refusal. This looks at databases that take tokens of an issuer other than the server itself.
select 'function auth.uid()', format('returns uuid, and is called by %s policies on realtime.messages', count(*)),
       'where ids are no uuids, compare (select auth.jwt() ->> ''sub'') with a column of type text'
  from pg_policy p
 where ($1::jsonb ->> 'issuers')::int > 0 and p.polrelid = to_regclass('realtime.messages')
   and exists (
     select from pg_depend d join pg_proc f on f.oid = d.refobjid
      where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
        and f.oid = to_regprocedure('auth.uid()') and f.prorettype = 'uuid'::regtype)
having count(*) > 0;
