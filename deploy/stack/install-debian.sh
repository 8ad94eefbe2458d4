#!/usr/bin/env bash
# The packages of Debian that the native stack runs: PostgreSQL, Redis and PgBouncer. As root; idempotent.
# Their own services are neither started nor enabled: the stack runs the programs on folders of its own.
set -euo pipefail

packages=(postgresql redis-server pgbouncer)
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
    missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
  echo "installed already: ${packages[*]}"
  exit 0
fi

# A policy that refuses every start while the packages unpack, unless the machine has a policy of its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
# Debian's default cluster would only lie there: none is made where postgresql-common is new.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  mkdir -p /etc/postgresql-common/createcluster.d
  echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/gridroot.conf
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
apt-get install --yes --quiet --no-install-recommends "${missing[@]}" </dev/null

# Where the machine has a policy that lets services start, they are stopped, and not started at the next boot.
if [ -d /run/systemd/system ]; then
  systemctl disable --now --quiet postgresql redis-server pgbouncer
fi
echo "installed: ${missing[*]}"
