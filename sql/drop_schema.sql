-- Undoes create_schema.sql after the first migration was undone. The schema stays while anything else lives in it, or
-- where it belongs to somebody else.
drop table if exists realtime.schema_version;

do $$
begin
  drop schema if exists realtime restrict;
exception when dependent_objects_still_exist or insufficient_privilege then
  null;
end
$$;
