-- Notes that a migration was undone ($1: its version).
delete from realtime.schema_version where version_id operator(pg_catalog.=) $1;
