-- The helpers that policies written for Supabase use. Applied by `rowcast dev` and `rowcast migrate up --with-auth`, and
-- only where there is no schema auth: an existing one is never touched.
-- What is made here must mean the same wherever names lead in a session.
select pg_catalog.set_config('realtime.before', pg_catalog.current_setting('search_path'), true);
set local search_path = pg_catalog, pg_temp;
create schema auth;
comment on schema auth is 'Who is asking, from the claims of the token, for use in policies.';
grant usage on schema auth to public;

create function auth.jwt() returns jsonb language sql stable parallel safe
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
comment on function auth.jwt() is 'All claims of the token; null without one.';

create function auth.uid() returns uuid language sql stable parallel safe
  return nullif(auth.jwt() ->> 'sub', '')::uuid;
comment on function auth.uid() is 'The claim sub, which must be a uuid.';

create function auth.role() returns text language sql stable parallel safe
  return auth.jwt() ->> 'role';
comment on function auth.role() is 'The claim role: anon, authenticated, service_role, …';

create function auth.email() returns text language sql stable parallel safe
  return auth.jwt() ->> 'email';
comment on function auth.email() is 'The claim email.';
select set_config('search_path', current_setting('realtime.before'), true);
