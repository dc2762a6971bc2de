#!/bin/sh
# Make the database if the volume holds none, then become the command.
set -eu
if [ ! -e "$PGDATA" ]; then
    : "${POSTGRES_PASSWORD_FILE:?give the file with the password of the user postgres}"
    # A first start that is killed leaves only this directory, and the next one begins anew.
    new=$PGDATA.new
    rm -rf "$new"
    initdb --pgdata="$new" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=peer --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8
    echo "host all all all scram-sha-256" >>"$new/pg_hba.conf"
    pg_ctl --pgdata="$new" --wait --options="-c listen_addresses=''" start
    for script in /initdb.d/*.sql; do
        echo "running $script"
        psql --no-psqlrc --set=ON_ERROR_STOP=1 --quiet --file="$script"
    done
    pg_ctl --pgdata="$new" --wait --mode=fast stop
    mv "$new" "$PGDATA"
fi
exec "$@"
