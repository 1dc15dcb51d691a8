-- $1 is what script_run.sql runs.
select set_config('realtime.script', $1, true);
