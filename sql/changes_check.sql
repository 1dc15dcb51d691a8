-- What is wrong with an entry? $1 role, $2 the table's oid, $3 its key, $4 conditions (JSON), $5 selected columns, $6 roles that may bypass
-- row level security.
select coalesce(code, ''), coalesce(problem, ''), coalesce(missing, '') from realtime._check_entry($1, $2::bigint::oid, $3, $4::text::jsonb, $5, $6);
