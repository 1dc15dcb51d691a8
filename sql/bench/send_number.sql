-- Message number $2 from the database on topic $1.
select realtime.send(jsonb_build_object('text', 'a message from the database, about as long as people write them', 'number', $2::bigint), 'message', $1);
