# Owns one throw-away cluster: makes it, runs it, and takes it away when standard input ends, which happens however the
# starting process dies. Arguments: binaries, directory, how TCP clients prove themselves, then what postgres is given.
# Descriptors: 1 the status pipe, which closes when the server is gone; 2 the log; 3 the lock of the directory.
bin=$1 dir=$2 host_auth=$3
shift 3
umask 077
if "$bin/initdb" -D "$dir/data" -U postgres --auth-local=trust --auth-host="$host_auth" \
	-E UTF8 --no-locale --no-sync </dev/null >&2; then
	"$bin/postgres" -D "$dir/data" -k "$dir" "$@" &
	pid=$!
fi
exec >/dev/null
cat >/dev/null
if [ -n "$pid" ]; then
	# QUIT is the immediate stop: a fast one waits for every replication client. A shell starts its background commands
	# with QUIT ignored, so TERM goes first, for a server that has not set up its signals yet.
	kill -TERM "$pid"
	kill -QUIT "$pid"
	wait "$pid"
fi
rm -rf "$dir"
