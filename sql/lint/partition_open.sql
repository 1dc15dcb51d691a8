-- error: A partition of realtime.messages is granted to a role of ALLOWED_ROLES, and has no row level security.
-- The policies of realtime.messages guard what goes through realtime.messages. Who names the partition instead reads and
-- writes everybody's messages.
select format('table %s', p.oid::regclass), format('has no row level security, and is granted to %s: everybody''s messages are open to it',
                                                   string_agg(format('%I', r.rolname), ', ' order by r.rolname)),
       format('alter table %s enable row level security;', p.oid::regclass)
  from pg_inherits i
  join pg_class p on p.oid = i.inhrelid
  join pg_roles r on $1::jsonb -> 'allowed_roles' ? r.rolname
 where i.inhparent = to_regclass('realtime.messages') and not p.relrowsecurity
   and not r.rolsuper and not pg_has_role(r.oid, p.relowner, 'usage')
   and (has_table_privilege(r.oid, p.oid, 'select, insert, update, delete, truncate') or has_any_column_privilege(r.oid, p.oid, 'select, insert, update'))
 group by p.oid;
