-- warning: A role of ALLOWED_ROLES lacks a grant that private channels need.
-- A policy gives nothing that is not granted: without SELECT nobody of that role receives, without INSERT nobody sends. Where a
-- role is meant for public channels only, take it as it is.
select format('role %I', rolname), format('has no %s', what), mend
  from pg_roles,
       lateral (values
         ('USAGE on schema realtime', has_schema_privilege(oid, to_regnamespace('realtime'), 'usage'), format('grant usage on schema realtime to %I;', rolname)),
         ('SELECT on realtime.messages', has_table_privilege(oid, to_regclass('realtime.messages'), 'select'), format('grant select on realtime.messages to %I;', rolname)),
         ('INSERT on realtime.messages', has_table_privilege(oid, to_regclass('realtime.messages'), 'insert'), format('grant insert on realtime.messages to %I;', rolname))
       ) as needed (what, has, mend)
 where $1::jsonb -> 'allowed_roles' ? rolname and not has;
