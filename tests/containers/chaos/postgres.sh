#!/bin/sh
# One PostgreSQL of the cluster: `postgres.sh primary`, or `postgres.sh standby HOST` for a copy that streams from HOST.
set -eu
data=/data/postgres
if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
    mkdir -p "$data" && chown -R 999:999 /data && chmod 700 "$data"
    exec setpriv --reuid=999 --regid=999 --clear-groups "$0" "$@"
fi
if [ ! -s "$data/PG_VERSION" ] && [ "$1" = primary ]; then
    echo "$POSTGRES_PASSWORD" > /tmp/password
    initdb -D "$data" -U ramq --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync
    printf 'host all,replication ramq all scram-sha-256\nlocal all ramq trust\n' > "$data/pg_hba.conf"
    # A container that is killed loses nothing that was written: the kernel that holds it lives on.
    cat >> "$data/postgresql.conf" <<CONF
listen_addresses = '*'
unix_socket_directories = '/tmp'
max_connections = 200
shared_buffers = 128MB
fsync = off
wal_keep_size = 512MB
hot_standby_feedback = on
wal_receiver_timeout = 10s
wal_sender_timeout = 10s
CONF
    echo 'CREATE DATABASE ramq' | postgres --single -D "$data" postgres > /dev/null
fi
if [ ! -s "$data/PG_VERSION" ]; then
    until PGPASSWORD=$POSTGRES_PASSWORD pg_basebackup -h "$2" -U ramq -D "$data" -X stream -c fast -R --no-sync; do
        rm -rf "${data:?}"/*
        sleep 1
    done
fi
rm -f "$data/postmaster.pid" # of a server that was killed
exec postgres -D "$data"
