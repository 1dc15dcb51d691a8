-- Values as JSON: $1 their types, $2 their texts.
select realtime._render($1::bigint[]::oid[], $2);
