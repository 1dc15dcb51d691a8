-- $1 rows in one transaction: see changes.sql.
insert into public.told_all (owner, org, body)
  select '00000000-0000-4000-8000-000000000000', n % 20, 'about as long as what people write: ' || n from generate_series(0, $1::int - 1) n;
