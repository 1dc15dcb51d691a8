-- Who there is in the chat sample.
select id::text, name from public.people order by name;
