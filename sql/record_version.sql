-- Notes that a migration was applied ($1: its version).
insert into realtime.schema_version (version_id, is_applied) values ($1, true);
