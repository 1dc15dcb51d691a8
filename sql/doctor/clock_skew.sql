-- warning: The clocks of the database and of this machine differ.
-- Tokens expire by the server's clock, and rights that end at a time by the database's. Run this on the machine of the server.
select 'the clock of the database', format('is %s s %s this machine''s', round(abs(ahead)::numeric, 1), case when ahead > 0 then 'ahead of' else 'behind' end),
       'synchronise both machines, with chrony or systemd-timesyncd'
  from (select extract(epoch from clock_timestamp())::float8 - ($1::jsonb ->> 'now')::float8) as clocks (ahead)
 where abs(ahead) > 5;
