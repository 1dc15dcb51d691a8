-- warning: A policy matches with a pattern that comes from claims or columns.
-- With LIKE, ILIKE, SIMILAR TO and the operators ~, whoever chooses the pattern chooses what it matches: % and .* match every
-- topic. Only a pattern that is written in the policy is its author's.
with said as (
  select polname, expression from pg_policy,
         lateral unnest(array[pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)]) as e (expression)
   where polrelid = to_regclass('realtime.messages')
), matches as (
  -- literals are taken out, but for the mark that there was one
  select polname, match[1] as operator
    from said, regexp_matches(regexp_replace(expression, '''([^'']|'''')*''', '''''', 'g'),
                              '[^!~*<>=](!?~~?\*?) (?!''''(::text)?\))(?!(ANY|ALL) \(ARRAY\[(''''::text(, )?)+\]\))(?!similar_to_escape\(''''::text\))', 'g') as match
)
select distinct format('policy %I', polname),
       format('matches with %s against a pattern from claims or columns: who chooses it chooses what it matches',
              case operator when '~~' then 'LIKE' when '!~~' then 'NOT LIKE' when '~~*' then 'ILIKE' when '!~~*' then 'NOT ILIKE' else operator end),
       'compare with =, or with starts_with(…) and a separator at the end'
  from matches;
