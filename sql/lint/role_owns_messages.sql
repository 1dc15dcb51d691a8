-- error: A role of ALLOWED_ROLES owns realtime.messages, or is a member of its owner.
-- Policies do not bind the owner, nor who inherits from it; who is a member without inheriting can still SET ROLE to it. The
-- server refuses tokens of a role that owns the table or inherits from its owner.
select format('role %I', r.rolname),
       case when r.oid = c.relowner then 'owns realtime.messages: no policy binds it'
            when pg_has_role(r.oid, c.relowner, 'usage') then format('inherits from %I, which owns realtime.messages: no policy binds it', o.rolname)
            else format('is a member of %I, which owns realtime.messages, and may become it with SET ROLE', o.rolname) end,
       case when r.oid = c.relowner then 'alter table realtime.messages owner to … ;  -- the server''s own role'
            else format('revoke %I from %I;  -- or from the role in between', o.rolname, r.rolname) end
  from pg_class c
  join pg_roles o on o.oid = c.relowner
  join pg_roles r on $1::jsonb -> 'allowed_roles' ? r.rolname
 where c.oid = to_regclass('realtime.messages') and not r.rolsuper and pg_has_role(r.oid, c.relowner, 'member');
