-- Whether Postgres has run without a break since $1: a session of ours that began before lives. In a crash all end.
select exists (select from pg_stat_activity where usename = current_user and datname = current_database() and backend_start < $1);
