-- A message from the database on topic $1.
select realtime.send('{"text": "a message from the database, about as long as people write them"}', 'message', $1);
