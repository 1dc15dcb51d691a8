-- From here to the end of the transaction nobody else takes, keeps or gives up a place among the nodes.
lock table realtime._nodes in share row exclusive mode;
