-- Makes the publication $1.
select realtime._create_publication($1);
