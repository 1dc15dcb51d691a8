-- For the transaction that follows: names in catalogs are to be written out with their schemas, whatever the role's search_path.
select set_config('search_path', 'pg_catalog', true);
