-- Records a setting of this server ($1 name, $2 values) for the functions that must decide as it does.
insert into realtime._settings (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value;
