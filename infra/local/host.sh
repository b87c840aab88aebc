#!/bin/sh
# Process 1 of a host, in namespaces of its own: it makes the host's view of the machine, then keeps COMMAND running,
# as a supervisor does on a real host. Its end is the host's: the kernel kills what lives in its namespaces.
# usage: host.sh NAME ADDRESS FOLDER COMMAND...
set -eu
name=$1 address=$2 folder=$3
shift 3

hostname "$name"
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts
mount -t tmpfs tmpfs /dev/shm
mkdir -p "$folder/ray" /tmp/ray
mount --bind "$folder/ray" /tmp/ray # short, for a Unix socket's path has at most 107 bytes

ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$address/24" dev eth0
ip link set eth0 up

while :; do
  "$@" || echo "ended with $?"
  sleep 1
done
