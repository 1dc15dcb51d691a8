-- The newest migration that was applied.
select coalesce(pg_catalog.max(version_id), 0) from realtime.schema_version;
