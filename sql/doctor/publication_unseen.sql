-- warning: A published table can be read by none of the roles of ALLOWED_ROLES.
-- Its rows are told to who may SELECT them: without the grant nobody is told more than that something changed (Error 401), and
-- without a policy, where row level security is on, nobody is told anything.
with published as (
  select c.oid, c.relrowsecurity, c.relnamespace from pg_publication_tables t
    join pg_namespace n on n.nspname = t.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
   where t.pubname = $1::jsonb ->> 'publication'
), readers as (
  select p.oid, r.rolname,
         has_schema_privilege(r.oid, p.relnamespace, 'usage') and has_any_column_privilege(r.oid, p.oid, 'select') as granted,
         not p.relrowsecurity or r.rolbypassrls or exists (
           select from pg_policy y where y.polrelid = p.oid and y.polcmd in ('r', '*') and y.polpermissive
              and exists (select from unnest(y.polroles) as o (oid) where o.oid = 0 or pg_has_role(r.oid, o.oid, 'usage'))) as admitted
    from published p, pg_roles r
   where $1::jsonb -> 'allowed_roles' ? r.rolname
)
select format('table %s', p.oid::regclass),
       case when not exists (select from readers r where r.oid = p.oid and r.granted) then 'may be selected from by none of these roles'
            else 'has row level security and no policy for SELECT that means any of these roles' end,
       case when not exists (select from readers r where r.oid = p.oid and r.granted) then format('grant select on %s to …;', p.oid::regclass)
            else format('create policy … on %s for select to … using (…);', p.oid::regclass) end
  from published p
 where not exists (select from readers r where r.oid = p.oid and r.granted and r.admitted);
