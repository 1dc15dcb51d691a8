-- Undoes lookup.sql, but for the sample's policies.
drop policy "lookup receives" on realtime.messages;
drop policy "lookup sends" on realtime.messages;
drop table public.lookups;
