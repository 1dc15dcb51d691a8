-- As after COMMIT: what was put off is checked, and what the script set for its session is not the next one's.
set constraints all immediate;
reset session authorization;
reset all;
