-- warning: A policy takes topics apart, or builds them from text that may hold a separator.
-- split_part(topic, ':', 2) is the same for room:1 and room:1:staff: the right to one is a right to both. Built from an id that
-- is text, 'room:' || id is a topic of another kind when the id holds a colon. Ids that are numbers or uuids cannot.
with said as (
  select oid, polname, concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) as expression
    from pg_policy where polrelid = to_regclass('realtime.messages')
), texts as (  -- columns of other tables that a policy reads, if they can hold anything
  select s.oid, s.polname, a.attname, s.expression
    from said s
    join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = s.oid and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0
    join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    join pg_type t on t.oid = a.atttypid
   where d.refobjid <> to_regclass('realtime.messages') and t.typcategory = 'S'
     and not exists (  -- a CHECK of this column that speaks of a colon, in a text and not in a cast
       select from pg_constraint c
        where c.conrelid = d.refobjid and c.contype = 'c' and c.conkey = array[a.attnum]
          and replace(pg_get_constraintdef(c.oid), '::', '') ~ '''[^'']*:')
), found as (
  select polname, 'takes the topic apart: topics that differ elsewhere give the same rights' as finding,
         'build the topic from the row instead: ''room:'' || m.room_id = realtime.topic()' as mend
    from said where expression ~ '(\m(split_part|string_to_array|regexp_match|regexp_matches|regexp_split_to_array|regexp_substr|SUBSTRING|substr)|"substring"|"right")\(+(realtime\.topic\(\)|( SELECT realtime\.topic\(\) AS topic)|(messages\.)?topic\M)'
  union
  select polname, format('builds topics from %I, which is text and may hold a colon', attname),
         'build topics from a number or uuid, or forbid the separator with a CHECK on the column'
    from texts where expression ~ ('(\|\||\m(format|concat|concat_ws)\([^()]*,) (\(| SELECT )*([[:alnum:]_"]+\.)?' || quote_ident(attname) || '\M')
  union
  select polname, 'builds topics from a claim, which is text and may hold a colon', 'cast the claim to the type of the id, such as ((select auth.jwt()) ->> ''org'')::bigint'
    from said where regexp_replace(expression, '''([^'']|'''')*''', '''''', 'g') ~ '->> ''''(::text)?\)?( AS "?\?column\?"?)?\)+ \|\| |\|\| \(+( SELECT )?\(?[^|()]*(\([^|()]*(\(\))?[^|()]*\))?[^|()]* ->> ''''(::text)?( AS "?\?column\?"?)?\)(?!\)*::(uuid|bigint|integer|smallint|numeric))'
)
select format('policy %I', polname), finding, mend from found;
