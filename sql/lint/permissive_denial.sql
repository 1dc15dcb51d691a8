-- hint: A permissive policy reads as if it were meant to deny.
-- Permissive policies can only admit: what one of them refuses, another may allow, and one that is true for all who are not
-- banned admits everybody else. A policy that takes rights away is created AS RESTRICTIVE. This goes by the policy's name, and
-- by expressions that are false, or say only who is not meant.
with policies as (
  select polname, name, said
    from pg_policy,
         lateral (select lower(polname) as name) as n,
         lateral (select coalesce(pg_get_expr(polwithcheck, polrelid), pg_get_expr(polqual, polrelid)) as said) as e
   where polrelid = to_regclass('realtime.messages') and polpermissive
), reasons as (
  select polname,
         case when said = 'false' then 'is never true: a permissive policy cannot deny'
              -- the outermost operator: pg_get_expr writes every parenthesis
              when said ~ '^\(NOT ' or said ~ '^\([^()'']*(\([^()'']*\))?[^()'']* (<>|IS DISTINCT FROM|!~|!~\*|!~~|!~~\*) ' then
                'says only who or what is not meant, so it admits everybody else'
              when name ~ '^(deny|denie[sd]|(block|bann?|forbid|prohibit|reject|suspend|restrict|disallow)(s|ed|ing)?|(mut|refus|exclud)(e|es|ed|ing)|no|not|never)\M'
                or name ~ '\m(cannot|can not|can''t|can’t|may not|must not|mustn''t|never|nobody|no one|are not allowed|is not allowed)\M' then
                'has the name of a denial, but is permissive: it can only admit' end as reason
    from policies
)
select format('policy %I', polname), reason, format('drop policy %I on realtime.messages;  -- and create it AS RESTRICTIVE, so that it must hold beside the others', polname)
  from reasons where reason is not null;
