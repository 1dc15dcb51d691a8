-- A notification without anything else, with payload $1.
select pg_notify('bench', $1);
