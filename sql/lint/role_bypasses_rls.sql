-- error: A role of ALLOWED_ROLES bypasses row level security and is not in BYPASS_ROLES.
-- Whoever has a token of that role would be bound by no policy. The server refuses such tokens; superusers it always refuses.
select format('role %I', rolname),
       case when rolsuper then 'is a superuser: no policy binds it, and its tokens are refused'
            else 'bypasses row level security, and is not in BYPASS_ROLES: its tokens are refused' end,
       case when rolsuper then format('alter role %I nosuperuser;  -- or take it out of ALLOWED_ROLES', rolname)
            else format('alter role %I nobypassrls;  -- or add it to BYPASS_ROLES, if its tokens are the application''s own', rolname) end
  from pg_roles
 where $1::jsonb -> 'allowed_roles' ? rolname
   and (rolsuper or rolbypassrls and not $1::jsonb -> 'bypass_roles' ? rolname);
