-- warning: The encoding of the database is not UTF8.
-- Topics and payloads are Unicode. What the encoding lacks cannot be stored or compared: such a message or a join fails.
select format('database %I', current_database()), format('has the encoding %s', current_setting('server_encoding')),
       format('create database … encoding ''UTF8'' template template0;  -- and move the data of %I there', current_database())
 where current_setting('server_encoding') <> 'UTF8';
