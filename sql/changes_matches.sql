-- Which values pass a condition? $1 their table's oid, $2 the column, $3 the operator, $4 its operands, $5 the values.
select truths, coalesce(code, ''), coalesce(reason, '') from realtime._matches($1::bigint::oid, $2, $3, $4, $5);
