-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- Two things that a DBA asks of the servers themselves: to end a user's sessions, and to say when they have done all that
-- was committed.

-- SECURITY DEFINER for the sake of _disconnects, which is nobody else's to write or read.
-- +goose StatementBegin
create function realtime.disconnect(subject text, reason text default null) returns void
  language plpgsql security definer set search_path = '' as $$
#variable_conflict use_variable
declare token pg_catalog.uuid;
begin
  if subject is null or subject = '' then  -- no token names an empty one
    raise exception 'disconnect(): no subject given' using errcode = '22004';
  end if;
  if octet_length(subject) > 16384 then  -- what no token can hold
    raise exception 'disconnect(): a subject may be at most 16384 bytes long' using errcode = '22001';
  end if;
  if length(reason) > 500 then
    raise exception 'disconnect(): a reason may be at most 500 characters long' using errcode = '22001';
  end if;
  perform convert_to(subject || coalesce(reason, ''), 'UTF8');  -- here, where somebody is told, and not when the server reads it
  insert into realtime._disconnects (xid, subject, reason) values (pg_current_xact_id(), subject, nullif(reason, ''))
    returning _disconnects.token into token;
  perform realtime._say('d ' || pg_current_xact_id() || ' ' || token, true);
end $$;
-- +goose StatementEnd
comment on function realtime.disconnect(text, text) is
  'Closes every session of this user when the calling transaction commits, public channels included; what is committed later does not reach them. reason is told to the user. Who may still come back can do so at once: take the right away in the same transaction.';

-- nextval() is seen by everyone at once, before the COMMIT of whoever calls it and without one.
create sequence realtime._sync as bigint;
comment on sequence realtime._sync is 'Numbers of the calls of sync(). Every server looks at it with each of its heartbeats.';

alter table realtime._nodes add column synced bigint not null default 0;
comment on column realtime._nodes.synced is 'The server has applied all that was committed before the call of sync() with this number.';

-- +goose StatementBegin
create function realtime.sync(timeout interval default '5 s') returns boolean
  language plpgsql security definer set search_path = '' as $$
declare
  deadline timestamp with time zone;
  wanted   bigint;
  live     bigint;
  behind   bigint;
begin
  if timeout is null then
    raise exception 'sync(): no timeout given' using errcode = '22004';
  end if;
  if timeout < interval '0' or timeout > interval '60 s' then
    raise exception 'sync(): a timeout must be between 0 and 60 seconds' using errcode = '22023';
  end if;
  if current_setting('transaction_isolation') not like 'read %' then
    raise exception 'sync(): a transaction of isolation level % does not see the servers answer', upper(current_setting('transaction_isolation'))
      using errcode = '25000', hint = 'Call it in a transaction of its own, or in one that is READ COMMITTED.';
  end if;
  deadline := clock_timestamp() + timeout;
  wanted := nextval('realtime._sync');
  loop  -- each statement sees what was committed before it
    select count(*), count(*) filter (where synced < wanted) into live, behind from realtime._nodes where expires_at > clock_timestamp();
    if live = 0 then
      raise notice 'sync(): no server serves this database at the moment';
    end if;
    if behind = 0 then
      return true;
    end if;
    if clock_timestamp() >= deadline then
      return false;
    end if;
    perform pg_sleep(least(0.005, extract(epoch from deadline - clock_timestamp())));
  end loop;
end $$;
-- +goose StatementEnd
comment on function realtime.sync(interval) is
  'Waits until every server has applied all that was committed before the call: sessions that lost a right, or were disconnected, are closed. False: not all said so within timeout (at most 60 s). What the calling transaction has not committed itself is not covered. True, with a notice, where no server serves.';

revoke execute on function realtime.disconnect(text, text), realtime.sync(interval) from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime.sync(interval);
alter table realtime._nodes drop column synced;
drop sequence realtime._sync;
drop function realtime.disconnect(text, text);
