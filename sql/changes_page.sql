-- The next rows of a snapshot: $1 the table's oid, $2 its key, $3 the key of the last row that was read ('{}': none was), $4 role, $5 claims,
-- $6 roles that may bypass row level security, $7 columns, $8 how many rows, $9 the longest text of a value, $10 a condition on rows ('': all).
select coalesce(refusal, ''), coalesce(missing, ''), coalesce(columns, '{}'), texts, coalesce(code, ''), coalesce(reason, '')
  from realtime._snapshot_page($1::bigint::oid, $2, $3, $4, $5, $6, $7, $8, $9, $10);
