-- Whether there is a table of this name ($1).
select to_regclass($1) is not null;
