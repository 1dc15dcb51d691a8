-- The application's own table of plain.sql.
create table bench_plain (id bigint generated always as identity primary key, text text not null);
