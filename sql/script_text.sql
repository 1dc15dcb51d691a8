-- $1 is what script_run.sql runs. It finds names as everything of its writer's does.
select pg_catalog.set_config('realtime.script', $1, true), pg_catalog.set_config('search_path', null, true);
