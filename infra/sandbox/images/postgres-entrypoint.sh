#!/bin/sh
# The official image's contract: POSTGRES_USER, POSTGRES_PASSWORD(_FILE), POSTGRES_DB, POSTGRES_INITDB_ARGS,
# POSTGRES_HOST_AUTH_METHOD, PGDATA, /docker-entrypoint-initdb.d. During the first initialisation the server listens on the socket only.
set -e
[ "${1#-}" = "$1" ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
: "${PGDATA:=/var/lib/postgresql/data}" "${POSTGRES_USER:=postgres}"
: "${POSTGRES_DB:=$POSTGRES_USER}" "${POSTGRES_HOST_AUTH_METHOD:=scram-sha-256}"
export PGDATA POSTGRES_USER POSTGRES_DB
[ -z "$POSTGRES_PASSWORD_FILE" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")

as_postgres() { # as_postgres PROGRAM ARGUMENTS...
  if [ "$(id -u)" = 0 ]; then
    # shellcheck disable=SC2016
    su -s /bin/sh postgres -c 'exec "$@"' -- sh "$@"
  else
    "$@"
  fi
}

mkdir -p "$PGDATA" /var/run/postgresql
if [ "$(id -u)" = 0 ]; then chown -R postgres:postgres "$PGDATA" /var/run/postgresql; fi
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
    echo 'Error: Database is uninitialized and superuser password is not specified. Set POSTGRES_PASSWORD.' >&2
    exit 1
  fi
  umask 077
  printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/pgpass.$$
  if [ "$(id -u)" = 0 ]; then chown postgres /tmp/pgpass.$$; fi
  umask 022
  # shellcheck disable=SC2086
  as_postgres initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile=/tmp/pgpass.$$ --auth-host=scram-sha-256 --auth-local=trust \
    -E UTF8 --locale=C.UTF-8 --no-sync $POSTGRES_INITDB_ARGS
  rm -f /tmp/pgpass.$$
  printf '\nhost all all all %s\n' "$POSTGRES_HOST_AUTH_METHOD" >> "$PGDATA/pg_hba.conf"
  as_postgres pg_ctl -D "$PGDATA" -w -s start -o "-c listen_addresses=''"
  [ "$POSTGRES_DB" = postgres ] || psql -v ON_ERROR_STOP=1 -qU "$POSTGRES_USER" -d postgres -c "CREATE DATABASE \"$POSTGRES_DB\""
  for f in /docker-entrypoint-initdb.d/*; do
    # shellcheck disable=SC1090 # whatever the user put there
    case $f in
      *.sh) if [ -x "$f" ]; then "$f"; else . "$f"; fi ;;
      *.sql) psql -v ON_ERROR_STOP=1 -qU "$POSTGRES_USER" -d "$POSTGRES_DB" -f "$f" ;;
      *.sql.gz) gunzip -c "$f" | psql -v ON_ERROR_STOP=1 -qU "$POSTGRES_USER" -d "$POSTGRES_DB" ;;
    esac
  done
  as_postgres pg_ctl -D "$PGDATA" -m fast -w -s stop
  echo 'PostgreSQL init process complete; ready for start up.'
fi
unset POSTGRES_PASSWORD
shift
if [ "$(id -u)" = 0 ]; then
  # shellcheck disable=SC2016
  exec su -s /bin/sh postgres -c 'exec postgres -c "listen_addresses=*" "$@"' -- sh "$@"
fi
exec postgres -c 'listen_addresses=*' "$@"
