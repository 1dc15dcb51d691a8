-- Says that the server's own watch of the table $1 does not count.
select realtime._outgrown($1);
