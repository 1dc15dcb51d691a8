-- Drops the slot $1, at once when the session that reads it has ended, which is told to: whoever wants to go on reading comes
-- too late. No row: it has not ended in time.
select pg_drop_replication_slot(slot_name) is not null
  from (select slot_name, pg_terminate_backend(active_pid, 5000) as ended
          from pg_replication_slots where slot_name = $1 and slot_type = 'logical' and database = current_database()
        offset 0) as slot -- so that it is ended before it is dropped
 where coalesce(ended, true);
