-- What the publication $1 publishes; no row: there is none. The digest is another after anything of that has changed: tables,
-- their columns and row filters, or its own settings.
select p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, current_setting('wal_level'),
       md5(concat(to_jsonb(p), (select string_agg(to_jsonb(t)::text, ',' order by t.schemaname, t.tablename) from pg_catalog.pg_publication_tables t where t.pubname = p.pubname)))
  from pg_catalog.pg_publication p where p.pubname = $1;
