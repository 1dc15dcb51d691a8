-- +goose Up
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
insert into realtime._settings values ('bypass_roles', '{service_role}');

-- +goose Down
drop table realtime._settings;
revoke usage on schema realtime from public;
