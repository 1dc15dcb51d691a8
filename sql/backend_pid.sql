-- Which process answers.
select pg_backend_pid();
