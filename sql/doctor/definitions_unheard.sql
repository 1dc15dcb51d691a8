-- hint: What changes policies, grants and functions is not noticed when it commits.
-- Without an event trigger, the server looks at definitions every RIGHTS_POLL_INTERVAL, and a right that ALTER POLICY or REVOKE takes
-- away lives on for so long. Only a superuser can create one. It runs a function of the server's role in every session that
-- changes definitions, so whoever creates it trusts that role with what superusers may do.
select 'event trigger realtime_rights', case when disabled then 'is disabled' else 'does not exist' end || ': what changes definitions is noticed within RIGHTS_POLL_INTERVAL, and not at COMMIT',
       'as a superuser who trusts the server''s role: '
       || case when disabled then format('alter event trigger %I enable;', name)
               else 'create event trigger realtime_rights on ddl_command_end execute function realtime._ddl_changed();' end
  from (select bool_or(evtenabled in ('O', 'A')) is not true, count(*) > 0, min(evtname)
          from pg_event_trigger where evtfoid = to_regprocedure('realtime._ddl_changed()')) as found (missing, disabled, name)
 where missing and to_regprocedure('realtime._ddl_changed()') is not null;
