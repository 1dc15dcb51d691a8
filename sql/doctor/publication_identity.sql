-- error: A published table has no replica identity.
-- Postgres then refuses every UPDATE and DELETE of it, to everybody.
with published as (
  select c.oid from pg_publication_tables t
    join pg_namespace n on n.nspname = t.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
   where t.pubname = $1::jsonb ->> 'publication'
), stored as (  -- of a partitioned table, its partitions count
  select oid from published
  union
  select tree.relid from published, pg_partition_tree(published.oid) as tree
)
select format('table %s', c.oid::regclass), format('refuses every %s', concat_ws(' and ', case when p.pubupdate then 'UPDATE' end, case when p.pubdelete then 'DELETE' end)),
       format('alter table %s add primary key (…);  -- or: alter table %1$s replica identity full;', c.oid::regclass)
  from stored join pg_class c using (oid) join pg_publication p on p.pubname = $1::jsonb ->> 'publication'
 where c.relkind = 'r' and (p.pubupdate or p.pubdelete)
   and (c.relreplident = 'n'
     or c.relreplident = 'd' and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
     or c.relreplident = 'i' and not exists (select from pg_index i where i.indrelid = c.oid and i.indisreplident));
