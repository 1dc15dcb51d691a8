-- Whether the policies of tables are still the same: $1 for each table the relations and functions that they depend on, as JSON.
select array(
  select realtime._policies_digest(
      array(select r::oid from jsonb_array_elements_text(p -> 'relations') as r),
      array(select f::oid from jsonb_array_elements_text(p -> 'functions') as f))
    from jsonb_array_elements($1::text::jsonb) with ordinality as p (p, i) order by i);
