-- hint: There is no publication, or it publishes no table.
-- Postgres Changes tells of the tables of PUBLICATION. Who asks for changes of another is told that they cannot be had, until
-- the table is published.
select format('publication %I', wanted.name), case when p.oid is null then 'does not exist' else 'publishes no table' end,
       format(case when p.oid is null then 'create publication %I for table … with (publish_via_partition_root = true);' else 'alter publication %I add table …;' end, wanted.name)
       || '  -- if nobody is to be told of changes, leave it so'
  from (select $1::jsonb ->> 'publication') as wanted (name)
  left join pg_publication p on p.pubname = wanted.name
 where not exists (select from pg_publication_tables t where t.pubname = wanted.name);
