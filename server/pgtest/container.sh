# Runs the image's server until standard input ends. Arguments: what postgres is given.
docker-entrypoint.sh postgres "$@" >&2 &
pid=$!
cat >/dev/null
kill -TERM "$pid"
kill -QUIT "$pid"
wait "$pid"
