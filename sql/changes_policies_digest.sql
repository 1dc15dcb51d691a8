-- Whether the policies of tables are still the same: $1 for each table the relations and functions that they depend on, and the roles
-- of which it matters whom they are for, as JSON.
select array(
  select concat_ws(' ',
      realtime._policies_digest(array(select r::oid from jsonb_array_elements_text(p -> 'relations') as r), array(select f::oid from jsonb_array_elements_text(p -> 'functions') as f)),
      md5(realtime._holders(array(select r::oid from jsonb_array_elements_text(p -> 'relations') as r), array(select r from jsonb_array_elements_text(p -> 'roles') as r))::text))
    from jsonb_array_elements($1::text::jsonb) with ordinality as p (p, i) order by i);
