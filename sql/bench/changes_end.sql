-- Undoes changes.sql.
do $$ begin
  execute format('alter role rowcast in database %I reset log_statement', current_database());
  execute format('alter role rowcast in database %I reset log_parameter_max_length', current_database());
end $$;
drop procedure public.tell;
drop publication bench_changes;
drop table public.told_all, public.told_org, public.told_own, public.told_once, public.told_member, public.told_members, public.told_open;
