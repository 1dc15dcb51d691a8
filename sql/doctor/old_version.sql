-- error: This Postgres is older than 14.
-- Migrations and decisions use what older ones do not have, and nothing is tested there.
select 'Postgres', format('is version %s', version / 10000), 'upgrade to 14 or newer'
  from (select coalesce(($1::jsonb ->> 'server_version')::int, current_setting('server_version_num')::int)) as asked (version)
 where version < 140000;
