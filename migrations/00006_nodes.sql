-- +goose Up
set local lock_timeout = '5s';
-- Rooms live in a server's memory, so two servers on one database would split them, and nobody would be told. A server
-- serves only while it has a row here.
create table realtime._nodes (
  id         text        primary key,
  name       text        not null,
  started_at timestamptz not null check (isfinite(started_at)),
  expires_at timestamptz not null check (isfinite(expires_at))
);
alter table realtime._nodes enable row level security;
comment on table realtime._nodes is 'The servers that serve this database, one row each. A server writes its own and renews it every other second; it stops serving when it finds its row gone.';
comment on column realtime._nodes.id is 'Random, made anew when a server starts.';
comment on column realtime._nodes.name is 'For people: host and port of the server.';
comment on column realtime._nodes.started_at is 'When the server began to serve.';
comment on column realtime._nodes.expires_at is 'From then on, by this database''s clock, another server may remove the row and serve instead.';

-- +goose Down
set local lock_timeout = '5s';
drop table realtime._nodes;
