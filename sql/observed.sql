-- Notes the relations $1 that a decision was seen to read; true if one was not known.
select realtime._observed($1::bigint[]::oid[]);
