#!/bin/sh
# As the public image does: a new folder gets a superuser postgres with the password of the environment.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf %s "${POSTGRES_PASSWORD:?}" >/tmp/password
  initdb -U postgres -A scram-sha-256 --pwfile=/tmp/password -E UTF8 --locale=C >/dev/null
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec postgres -c listen_addresses='*'
