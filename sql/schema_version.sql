-- The newest migration that was applied.
select coalesce(max(version_id), 0) from realtime.schema_version;
