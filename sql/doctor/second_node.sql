-- warning: Several servers serve this database.
-- Rooms live in a server's memory: clients of one do not hear clients of the other. ALLOW_SECOND_NODE lets a second one serve.
select 'the servers of this database', format('are %s: %s', count(*), string_agg(format('%s (%s)', name, id), ', ' order by started_at)),
       'stop all but one, and set ALLOW_SECOND_NODE=false'
  from realtime._nodes where expires_at > clock_timestamp()
having count(*) > 1;
