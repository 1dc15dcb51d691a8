-- Of what the publication $1 publishes; empty: there is none. See digests.sql.
select coalesce((
  select md5(concat(to_jsonb(p), string_agg(concat(to_jsonb(t), t.relid::regclass), ',' order by t.relid)))
    from pg_publication p left join lateral pg_get_publication_tables(p.pubname::text) as t on true
   where p.pubname = $1
   group by p.*), '');
