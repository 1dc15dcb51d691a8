-- warning: This Postgres has known bugs in row level security.
-- CVE-2023-2455 and CVE-2024-10976: a query that is planned for one role and run for another may be bound by the wrong
-- policies. The server puts on roles all the time, on connections that it keeps.
with asked as (
  select coalesce(($1::jsonb ->> 'server_version')::int, current_setting('server_version_num')::int) as version
), bugs (name, major, fixed) as (
  values ('CVE-2023-2455', 11, 20), ('CVE-2023-2455', 12, 15), ('CVE-2023-2455', 13, 11), ('CVE-2023-2455', 14, 8), ('CVE-2023-2455', 15, 3),
         ('CVE-2024-10976', 12, 21), ('CVE-2024-10976', 13, 17), ('CVE-2024-10976', 14, 14), ('CVE-2024-10976', 15, 9), ('CVE-2024-10976', 16, 5),
         ('CVE-2024-10976', 17, 1)
)
select 'Postgres ' || version / 10000 || '.' || version % 10000, format('has %s', string_agg(name, ' and ' order by name)),
       format('upgrade to %s.%s or newer', major, max(fixed))
  from asked join bugs on major = version / 10000 and version % 10000 < fixed
 group by version, major;
