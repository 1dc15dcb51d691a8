-- What has been committed by now, and in which history: of which database, on which timeline (another one begins where a
-- standby is promoted or a backup is restored), since which start of the server; and its own processes, which all end with
-- a crash that the server itself survives.
select pg_current_snapshot()::text,
       (select system_identifier from pg_control_system()) || '/' || (select oid from pg_database where datname = current_database()),
       left(pg_walfile_name(pg_current_wal_lsn()), 8),
       extract(epoch from pg_postmaster_start_time())::text,
       array(select pid from pg_stat_activity where datid is null and usesysid is null);
