-- warning: Tokens of several issuers are accepted, and a policy asks for the user id alone.
-- An id is unique within its issuer. Who can get the same sub from another issuer has the same rights. This counts the
-- addresses of JWT_ISSUER and JWT_JWKS_URL, and looks for sub or auth.uid() in policies, and in the functions that they call,
-- that do not mention the claim iss.
with said as (
  select p.oid, p.polname, concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid), string_agg(f.prosrc, ' ')) as expression
    from pg_policy p
    left join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
    left join pg_proc f on f.oid = d.refobjid
   where p.polrelid = to_regclass('realtime.messages')
   group by p.oid, p.polname, p.polqual, p.polrelid, p.polwithcheck
)
select format('policy %I', polname), format('asks for the user id alone, and tokens of %s issuers are accepted', $1::jsonb ->> 'issuers'),
       'compare the issuer too: (select auth.jwt() ->> ''iss''), or keep it beside the user id'
  from said
 where ($1::jsonb ->> 'issuers')::int > 1
   and expression ~ '\muid\(|''sub''|request\.jwt\.claim\.sub' and expression !~ '''iss''';
