-- EXECUTE takes many statements, and Postgres itself refuses there what would end the transaction: COMMIT, ROLLBACK and
-- BEGIN in any spelling, in functions and procedures too.
do $rowcast$ begin execute pg_catalog.current_setting('realtime.script'); end $rowcast$;
