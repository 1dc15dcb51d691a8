-- On a connection for replication, so without a table: whom commits wait for.
show synchronous_standby_names;
