-- Optional, for a superuser, once per database: rights that are changed by DDL (policies, privileges, functions, tables) are
-- noticed when it commits, and not only when the server looks again (RIGHTS_POLL_INTERVAL). Roles belong to no database, so
-- changes of these are noticed as before.
--
-- From then on every DDL statement of this database runs realtime._ddl_changed(), which the server's role owns: whoever
-- applies this trusts that role with what superusers may do.
drop event trigger if exists realtime_rights;
create event trigger realtime_rights on ddl_command_end when tag in (
    'CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'GRANT', 'REVOKE', 'CREATE TABLE', 'ALTER TABLE', 'DROP TABLE', 'ALTER SCHEMA', 'DROP SCHEMA',
    'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE RULE', 'DROP RULE', 'CREATE FUNCTION', 'ALTER FUNCTION', 'DROP FUNCTION', 'ALTER ROUTINE', 'DROP ROUTINE',
    'CREATE TRIGGER', 'ALTER TRIGGER', 'DROP TRIGGER', 'DROP OWNED')
  execute function realtime._ddl_changed();
