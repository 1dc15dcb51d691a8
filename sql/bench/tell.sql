-- Rows $2 to $3 - 1 of table $1, of $4 owners: see changes.sql.
call public.tell($1::text::regclass, $2, $3, $4);
