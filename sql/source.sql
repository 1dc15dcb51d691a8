-- By which way messages are said, and whether the node $1 has a place among those that serve.
select last_value, exists (select from realtime._nodes where id = $1) from realtime._source;
