-- Which migrations were applied, the last one first.
select version_id, is_applied from realtime.schema_version order by id desc;
