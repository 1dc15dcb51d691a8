-- Of the roles $1, those that cannot use private channels for want of a grant, with the statement that mends it.
select format('grant select, insert on realtime.messages to %I;', rolname) from pg_roles
 where rolname = any ($1::text[])
   and not (has_table_privilege(oid, 'realtime.messages', 'select') and has_table_privilege(oid, 'realtime.messages', 'insert'));
