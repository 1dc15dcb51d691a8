-- Which migrations were applied, and when.
select version_id, tstamp from realtime.schema_version where version_id operator(pg_catalog.>) 0 order by version_id;
