-- What a transaction writes that says nothing.
insert into bench_plain (text) values ('a row of the application, about as long as people write them');
