-- warning: A published table with row level security has no primary key.
-- Who may see a row is found out by looking for it by its key, under the policies. Without one, everybody is told that something
-- changed (Error 400), and nobody what.
select format('table %I.%I', t.schemaname, t.tablename), 'has row level security and no primary key',
       format('alter table %I.%I add primary key (…);', t.schemaname, t.tablename)
  from pg_publication_tables t
  join pg_namespace n on n.nspname = t.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
 where t.pubname = $1::jsonb ->> 'publication' and c.relrowsecurity
   and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary);
