#!/bin/sh
# Backup and restore of the event log: the folder of one Kafka broker (its log.dirs), on that broker's machine.
#   log.sh backup BROKER_FOLDER ARCHIVE    while the broker runs
#   log.sh restore ARCHIVE BROKER_FOLDER   into an empty folder, before the broker is started
# The ledger is backed up first, into a file `ledger.dump` beside ARCHIVE: a ledger that is ahead of its log halts,
# one that is behind catches up. The copy of a running broker is what a crash would leave: a start recovers it.
set -eu
action=${1:-}

case $action in
backup)
  folder=${2:?names the folder of the broker}
  archive=${3:?names the archive}
  if [ ! -f "$folder/meta.properties" ]; then
    echo "$folder is no folder of a broker" >&2
    exit 1
  fi
  if [ ! -f "$(dirname "$archive")/ledger.dump" ]; then
    echo "there is no ledger.dump beside $archive: back up the ledger first" >&2
    exit 1
  fi
  umask 077
  # What says how far the log was flushed goes first, so that it never says more than the archive holds.
  status=0
  tar --create --file="$archive.unfinished" --directory="$folder" --sparse --numeric-owner \
    --warning=no-file-changed --warning=no-file-removed --exclude=.lock --exclude=.kafka_cleanshutdown \
    meta.properties recovery-point-offset-checkpoint replication-offset-checkpoint log-start-offset-checkpoint . ||
    status=$?
  # 1: files grew or went while they were read, as they do.
  if [ "$status" -gt 1 ]; then exit "$status"; fi
  sync "$archive.unfinished"
  mv "$archive.unfinished" "$archive"
  ;;
restore)
  archive=${2:?names the archive}
  folder=${3:?names the folder of the broker}
  mkdir -p "$folder"
  if [ -n "$(ls -A "$folder")" ]; then
    echo "$folder is not empty" >&2
    exit 1
  fi
  tar --extract --file="$archive" --directory="$folder" --numeric-owner --skip-old-files
  ;;
*)
  echo "usage: $0 backup BROKER_FOLDER ARCHIVE | restore ARCHIVE BROKER_FOLDER" >&2
  exit 2
  ;;
esac
