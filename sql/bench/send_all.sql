-- A message from the database to each of the first $1 rooms of fill.sql.
select count(realtime.send('{"text": "to all"}', 'all', 'room:' || 1000 + n)) from generate_series(0, $1::int - 1) n;
