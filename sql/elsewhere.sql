-- Transactions of other databases that have an id (the lower half of it) and have not ended. Every role is shown these columns.
select backend_xid::text from pg_stat_activity
 where backend_xid is not null and datid <> (select oid from pg_database where datname = current_database())
union all
select transaction::text from pg_prepared_xacts where database <> current_database();
