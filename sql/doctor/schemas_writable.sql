-- warning: Users may make functions in a schema in which the server finds names.
-- A function or an operator of theirs that fits the types of a call better than that of Postgres is taken for it: by the server, with the
-- server's rights, and by policies that are kept as text. From Postgres 15 on nobody may do so in public, unless that was granted.
select format('schema %I', n.nspname),
       format('is in the search_path of %I, and users of %s may create in it', current_user, string_agg(quote_ident(r.rolname), ', ' order by r.rolname)),
       format('revoke create on schema %I from public, %s;', n.nspname, string_agg(quote_ident(r.rolname), ', ' order by r.rolname))
  from pg_namespace n join pg_roles r on has_schema_privilege(r.oid, n.oid, 'create') and not r.rolsuper
  join jsonb_array_elements_text($1::jsonb -> 'allowed_roles') as wanted (name) on wanted.name = r.rolname
 where n.nspname in (select replace(btrim(word, ' "'), '$user', current_user) from pg_settings, unnest(string_to_array(reset_val, ',')) as word where pg_settings.name = 'search_path')
 group by n.nspname order by n.nspname;
