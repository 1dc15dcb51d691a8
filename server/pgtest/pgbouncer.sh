# Owns one pgbouncer until standard input ends; a line there has it started again. Arguments: the program, its directory.
bouncer=$1 dir=$2
serve() {
	"$bouncer" -q "$dir/pgbouncer.ini" </dev/null &
	pid=$!
}
serve
while read -r _; do
	kill -TERM "$pid"
	wait "$pid"
	serve
done
kill -TERM "$pid"
wait "$pid"
rm -rf "$dir"
