-- The least that a question can cost.
select 1;
