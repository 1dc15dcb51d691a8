-- warning: Users may make functions in a schema in which functions of policies find names.
-- A function or an operator of theirs that fits the types of a call better than that of Postgres is taken for it: by functions that policies
-- call, and triggers on realtime.messages, unless these have a search_path of their own or a body that was parsed when they were made. What the
-- server itself says is not affected. From Postgres 15 on nobody may do so in public, unless that was granted.
select format('schema %I', n.nspname),
       format('is in the search_path of %I, and users of %s may create in it', current_user, string_agg(quote_ident(r.rolname), ', ' order by r.rolname)),
       format('revoke create on schema %I from public, %s;', n.nspname, string_agg(quote_ident(r.rolname), ', ' order by r.rolname))
  from pg_namespace n join pg_roles r on has_schema_privilege(r.oid, n.oid, 'create') and not r.rolsuper
  join jsonb_array_elements_text($1::jsonb -> 'allowed_roles') as wanted (name) on wanted.name = r.rolname
 where n.nspname in (select replace(btrim(word, ' "'), '$user', current_user) from pg_settings, unnest(string_to_array(reset_val, ',')) as word where pg_settings.name = 'search_path')
 group by n.nspname order by n.nspname;
