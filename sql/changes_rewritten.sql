-- Whether any of the relations $1 was written anew since the transaction's snapshot.
select realtime._rewritten($1::bigint[]::oid[]);
