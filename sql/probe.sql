-- What every decision begins with, to be rolled back.
insert into realtime.messages (topic, extension, inserted_at, updated_at) values ('', 'broadcast', '0001-01-01', '0001-01-01');
