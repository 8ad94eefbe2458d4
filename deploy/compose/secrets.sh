#!/bin/sh
# Makes the secrets of deploy/compose, each a file of its own, from the system's random source:
#   sh secrets.sh [FOLDER]
# The folder (default: `secrets` beside this file) must not exist. It is entered by its owner alone; the files in it can
# be read by the containers' users. Keep a copy where it is safe: without the keys of relayer and authorities nothing
# can be settled on their contract any more.
set -eu
folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder" ]; then
  echo "$folder is there already; nothing is changed" >&2
  exit 1
fi
unfinished=$folder.unfinished
rm -rf "$unfinished"
mkdir -m 700 "$unfinished"

random_hex() {
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

secret() {
  printf '%s\n' "$2" >"$unfinished/$1"
  chmod 444 "$unfinished/$1"
}

postgres_password=$(random_hex)
redis_password=$(random_hex)
secret postgres-password "$postgres_password"
secret postgres-url "postgres://gridroot:$postgres_password@postgres:5432/gridroot"
secret redis-password "$redis_password"
secret redis-url "redis://:$redis_password@redis:6379"
secret redis.conf "requirepass $redis_password"
secret influx-password "$(random_hex)"
secret influx-token "$(random_hex)"

relayer=0x$(random_hex)
egat=0x$(random_hex)
mea=0x$(random_hex)
pea=0x$(random_hex)
secret relayer-key "$relayer"
secret authority-egat-key "$egat"
secret authority-mea-key "$mea"
secret authority-pea-key "$pea"
# The local chain gives all of them coins, and `prepare` deploys the contract with their addresses.
secret keys.json "{ \"deployer\": \"0x$(random_hex)\", \"relayer\": \"$relayer\", \
\"authority-egat\": \"$egat\", \"authority-mea\": \"$mea\", \"authority-pea\": \"$pea\" }"

# A cluster's own name: Gridroot tells a Kafka that was made anew by it. It is no secret, but must not be shared.
cluster=$({ printf '\000'; head -c 15 /dev/urandom; } | base64 | tr '+/' '-_' | tr -d '=')
printf 'KAFKA_CLUSTER_ID=%s\n' "$cluster" >"$unfinished/compose.env"
mv "$unfinished" "$folder"
echo "$folder"
