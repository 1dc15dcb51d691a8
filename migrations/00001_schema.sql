-- +goose Up
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
-- The schema itself exists already: `rowcast migrate` makes it first, because the version table lives in it.
comment on schema realtime is 'Rowcast: channels whose rights are the Row Level Security policies on realtime.messages.';

-- Names are for everyone; what each object gives is granted object by object.
grant usage on schema realtime to public;

-- What the running server was configured with, so that can() decides as the server does.
create table realtime._settings (
  name  text primary key,
  value text[] not null
);
comment on table realtime._settings is 'Settings of the server that started last, for the functions that must decide as it does. Written by the server.';
insert into realtime._settings values ('bypass_roles', '{service_role}'), ('max_payload_bytes', '{3000000}');

comment on table realtime.schema_version is 'Which migrations were applied.';

-- Here and below: our own tables have no policies, so that a blanket grant on the schema's tables opens none of them.
alter table realtime._settings enable row level security;
alter table realtime.schema_version enable row level security;

-- +goose Down
set local lock_timeout = '5s';
set local search_path = pg_catalog, pg_temp;
alter table realtime.schema_version disable row level security;
comment on table realtime.schema_version is null;
drop table realtime._settings;
revoke usage on schema realtime from public;
