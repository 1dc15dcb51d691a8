-- warning: A partition of realtime.messages is granted to a role of ALLOWED_ROLES.
-- Nobody needs it: rights on realtime.messages are enough. Of the partition's own name it is closed only as long as row level
-- security stays on and it has no policy of its own; TRUNCATE is not even bound by that. Default privileges grant it again
-- for the partition of every day.
select format('table %s', p.oid::regclass), format('is granted to %s, who need it only on realtime.messages',
                                                   string_agg(format('%I', r.rolname), ', ' order by r.rolname)),
       format('revoke all on %s from public, %s;  -- and see \ddp in psql for default privileges', p.oid::regclass,
              string_agg(format('%I', r.rolname), ', ' order by r.rolname))
  from pg_inherits i
  join pg_class p on p.oid = i.inhrelid
  join pg_roles r on $1::jsonb -> 'allowed_roles' ? r.rolname
 where i.inhparent = to_regclass('realtime.messages') and p.relrowsecurity
   and not r.rolsuper and not pg_has_role(r.oid, p.relowner, 'usage')
   and (has_table_privilege(r.oid, p.oid, 'select, insert, update, delete, truncate') or has_any_column_privilege(r.oid, p.oid, 'select, insert, update'))
 group by p.oid;
