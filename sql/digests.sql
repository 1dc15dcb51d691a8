-- Of everything in the catalogs that policies depend on: another than before, and rights may have changed. And of what the
-- publication $1 publishes; empty: there is none. Columns do not count: the stream says when they change.
select realtime._digest(), coalesce((
  select md5(concat(to_jsonb(p), string_agg(concat(to_jsonb(t), t.relid::regclass), ',' order by t.relid)))
    from pg_publication p left join lateral pg_get_publication_tables(p.pubname::text) as t on true
   where p.pubname = $1
   group by p.*), '');
