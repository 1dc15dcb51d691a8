-- Gives up the place of $1 (id) among the nodes.
delete from realtime._nodes where id = $1;
