-- Ends process $1, one of our own.
select pg_terminate_backend($1::bigint::int);
