-- What plain.sql writes, and a message about it on topic $1, of a channel that nobody is on.
with written as (insert into bench_plain (text) values ('a row of the application, about as long as people write them') returning id)
select realtime.send(jsonb_build_object('id', id), 'insert', $1) from written;
