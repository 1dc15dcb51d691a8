-- hint: There is no schema auth.
-- Policies that were written for Supabase use auth.uid(), auth.jwt(), auth.role() and auth.email().
select 'schema auth', 'does not exist', 'rowcast migrate up --with-auth'
 where to_regnamespace('auth') is null;
