-- Whether the decision that follows is made by plans of its own: those of this connection are from before the last discovery.
select realtime._plan_anew();
