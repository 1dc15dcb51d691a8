-- Has the decision that follows planned anew: a connection may have plans from before a change of roles.
discard plans;
