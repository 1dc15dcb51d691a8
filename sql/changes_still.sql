-- Which rows that are gone would these users see? $1 the table's oid, $2 columns whose values are known, $3 the values (of the first
-- row, then of the second, …), $4 how many rows, $5 roles, $6 claims. Nothing is said where the policies are others, as of this
-- snapshot, than it is known of which columns they look at: $7 and $8 relations and functions that they depend on, $9 the digest.
select grp, visible from realtime._still($1::bigint::oid, $2, $3, $4, $5, $6)
 where (select realtime._policies_digest($7::bigint[]::oid[], $8::bigint[]::oid[])) = split_part($9::text, ' ', 1);
