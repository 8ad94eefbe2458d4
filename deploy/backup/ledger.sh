#!/bin/sh
# Backup and restore of the ledger: all schemas of Gridroot's database, as one consistent snapshot.
#   ledger.sh backup FILE     while everything runs
#   ledger.sh restore FILE    into a database without them, before any role is started
# GRIDROOT_POSTGRES_DIRECT_URL or GRIDROOT_POSTGRES_URL names the database; the first without a pooler between.
# Needs pg_dump, pg_restore and psql, not older than the server.
set -eu
database=${GRIDROOT_POSTGRES_DIRECT_URL:-${GRIDROOT_POSTGRES_URL:?names the database}}
action=${1:-}
file=${2:?names the file}

case $action in
backup)
  umask 077
  pg_dump --dbname="$database" --no-password --format=custom --file="$file.unfinished"
  # Read once: a dump that cannot be listed cannot be restored either.
  pg_restore --list "$file.unfinished" >/dev/null
  sync "$file.unfinished"
  mv "$file.unfinished" "$file"
  ;;
restore)
  found=$(psql --dbname="$database" --no-password --no-psqlrc --tuples-only --no-align \
    --command="select count(*) from pg_namespace where nspname in ('ledger', 'log', 'series', 'series_marks')")
  if [ "$found" != 0 ]; then
    echo "the database holds schemas of Gridroot already; restore into an empty one" >&2
    exit 1
  fi
  pg_restore --dbname="$database" --no-password --no-owner --exit-on-error --single-transaction "$file"
  ;;
*)
  echo "usage: $0 backup|restore FILE" >&2
  exit 2
  ;;
esac
