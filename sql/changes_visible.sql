-- Which rows do these users see? $1 the table's oid, $2 its key, $3 the keys (all values of the first column, then of the second, …),
-- $4 roles, $5 claims, $6 roles that may bypass row level security, $7 columns whose text is wanted,
-- $8 which of the keys each of them is asked about, $9 relations that the answer depends on. Last: whether these were written anew since
-- the snapshot, asked when all else has been.
select grp, coalesce(refusal, ''), coalesce(missing, ''), coalesce(columns, '{}'), coalesce(row_security, false), visible, texts, failed, coalesce(code, ''), coalesce(reason, ''),
       (select realtime._rewritten($9::bigint[]::oid[]))
  from realtime._visible($1::bigint::oid, $2, $3, $4, $5, $6, $7, $8);
