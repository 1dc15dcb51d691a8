# Owns one throw-away cluster: makes it, runs it, and takes it away when standard input ends, which happens however the
# starting process dies. A line on standard input has a server that has ended started again.
# Arguments: binaries, directory, how TCP clients prove themselves, data to begin with (or nothing), a file to put there (or
# nothing), then what postgres is given.
# Descriptors: 1 the status pipe, which closes when the first server is gone; 2 the log; 3 the lock of the directory.
bin=$1 dir=$2 host_auth=$3 copied=$4 mark=$5
shift 5
umask 077
make_data() {
	if [ -n "$copied" ]; then
		mkdir -p "$dir/data" && cp -R "$copied/." "$dir/data" && chmod 700 "$dir/data" && { [ -z "$mark" ] || touch "$dir/data/$mark"; }
	else
		"$bin/initdb" -D "$dir/data" -U postgres --auth-local=trust --auth-host="$host_auth" \
			-E UTF8 --no-locale --no-sync </dev/null >&2
	fi
}
serve() {
	"$bin/postgres" -D "$dir/data" -k "$dir" "$@" </dev/null &
	pid=$!
}
make_data && serve "$@"
exec >/dev/null
while read -r _; do
	wait "$pid"
	serve "$@"
done
if [ -n "$pid" ]; then
	# QUIT is the immediate stop: a fast one waits for every replication client. A shell starts its background commands
	# with QUIT ignored, so TERM goes first, for a server that has not set up its signals yet.
	kill -TERM "$pid"
	kill -QUIT "$pid"
	wait "$pid"
fi
rm -rf "$dir"
