-- warning: The server's own role is a superuser or bypasses row level security.
-- It needs neither. Whoever gets hold of the server's connection then has the whole of Postgres, and what the server makes
-- belongs to a role that no policy binds.
select format('role %I', rolname), case when rolsuper then 'is a superuser' else 'bypasses row level security' end,
       case when rolsuper then 'use a role of the server''s own: create role rowcast login password ''…'';'
            else format('alter role %I nobypassrls;', rolname) end
  from pg_roles where rolname = current_user and (rolsuper or rolbypassrls);
