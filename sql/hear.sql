-- The node $1 is to hear messages $2: by notify, both, or wal. Returns realtime._source as it was before, and as it is then, and
-- whether the node has a place among those that serve.
select before, after, exists (select from realtime._nodes where id = $1) from realtime._hear($1, $2);
