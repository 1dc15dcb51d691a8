-- A row of $1 megabytes: see changes.sql.
insert into public.told_all (owner, org, body) values ('00000000-0000-4000-8000-000000000000', 0, repeat('0123456789abcdef', $1::int * 65536));
