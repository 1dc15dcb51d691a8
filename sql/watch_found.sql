-- Watches the table $1 that policies were found to depend on.
select realtime._watch_found($1);
