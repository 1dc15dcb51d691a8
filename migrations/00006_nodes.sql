-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- Rooms live in a server's memory, so two servers on one database would split them, and nobody would be told. A server
-- serves only while it has a row here.
create table realtime._nodes (
  id         text        primary key,
  name       text        not null,
  started_at timestamptz not null check (isfinite(started_at)),
  expires_at timestamptz not null check (isfinite(expires_at)),
  hears_wal  boolean     not null default false
);
alter table realtime._nodes enable row level security;
comment on table realtime._nodes is 'The servers that serve this database, one row each. A server writes its own and renews it every other second; it stops serving when it finds its row gone.';
comment on column realtime._nodes.id is 'Random, made anew when a server starts.';
comment on column realtime._nodes.name is 'For people: host and port of the server.';
comment on column realtime._nodes.started_at is 'When the server began to serve.';
comment on column realtime._nodes.expires_at is 'From then on, by this database''s clock, another server may remove the row and serve instead.';
comment on column realtime._nodes.hears_wal is 'The server goes by the WAL, and needs nothing by NOTIFY but alarms.';

-- +goose StatementBegin
create function realtime._hear(node text, by text, out before bigint, out after bigint)
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  serves   boolean;
  way      bigint;
  wanted   bigint;
  notifies bigint;
  wals     bigint;
begin
  select last_value, last_value, last_value & 3 into before, after, way from realtime._source;
  if by = 'notify' and way = 0 and not exists (select from realtime._nodes where id = node and hears_wal) then
    return;  -- for the WAL alone this server would have to hear it: nothing is written where nothing changes
  end if;
  perform set_config('synchronous_commit', 'local', true);  -- a standby that is away has no say in it
  if by <> 'notify' then
    perform pg_logical_emit_message(true, 'rowcast', '');  -- where that is not allowed, we are to fail, and not those who send
  end if;
  lock table realtime._nodes in share row exclusive mode;  -- one server at a time
  update realtime._nodes set hears_wal = by = 'wal' where id = node;
  serves := found;
  select last_value, last_value, last_value & 3 into before, after, way from realtime._source;
  wanted := case by
    when 'notify' then case when exists (select from realtime._nodes where id <> node and hears_wal and expires_at > clock_timestamp()) then 1 else 0 end
    when 'both' then case when way = 0 then 1 else least(way, 2) end
    when 'wal' then case when way = 0 then 0  -- somebody set it back
                         when exists (select from realtime._nodes where not hears_wal and expires_at > clock_timestamp()) then 1 else 2 end
  end;
  if serves and wanted <> way then
    notifies := (after >> 32) + (wanted = 0)::int;
    wals := ((after >> 2) + (wanted = 2)::int) & 1073741823;
    after := setval('realtime._source', (notifies << 32) + (wals << 2) + wanted);
  end if;
end $$;
-- +goose StatementEnd
comment on function realtime._hear(text, text) is
  'Sets the way of messages so that this server hears them by NOTIFY, by both, or by the WAL, and the others still do; the WAL alone only where all that are alive hear it. Returns realtime._source as it was and as it is. A server without a row is told what there is.';
revoke execute on function realtime._hear(text, text) from public;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
drop function realtime._hear(text, text);
drop table realtime._nodes;
