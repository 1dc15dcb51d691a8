-- warning: Changes of a partitioned table are published as those of its partitions.
-- Postgres then asks each partition for its own columns and its own replica identity, and a partition that is attached or
-- made anew is another table to whoever follows the stream.
select format('publication %I', p.pubname), format('publishes %s as its partitions', string_agg(distinct root.relid::regclass::text, ', ')),
       format('alter publication %I set (publish_via_partition_root = true);', p.pubname)
  from pg_publication p
  join pg_publication_tables t on t.pubname = p.pubname
  join pg_namespace n on n.nspname = t.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
  cross join lateral (select pg_partition_root(c.oid) as relid) as root
 where p.pubname = $1::jsonb ->> 'publication' and not p.pubviaroot and c.relispartition
 group by p.pubname;
