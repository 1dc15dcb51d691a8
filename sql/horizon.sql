-- What has been committed by now, and in which history: of which database, on which timeline (another one begins where a
-- standby is promoted or a backup is restored), since which start of the server; and its own processes, which all end with
-- a crash that the server itself survives. Names are written out: it is also asked outside a transaction.
select pg_catalog.pg_current_snapshot()::pg_catalog.text,
       pg_catalog.concat((select system_identifier from pg_catalog.pg_control_system()), '/',
                         (select oid from pg_catalog.pg_database where datname operator(pg_catalog.=) pg_catalog.current_database())),
       pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8),
       extract(epoch from pg_catalog.pg_postmaster_start_time())::pg_catalog.text,
       array(select pid from pg_catalog.pg_stat_activity where datid is null and usesysid is null);
