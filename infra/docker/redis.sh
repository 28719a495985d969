#!/bin/sh
# Starts Redis with the password from the environment. On the command line everyone on the host could read it.
set -eu

case ${REDISCLI_AUTH:?} in # the name under which redis-cli looks for the password, in the health check
*[!A-Za-z0-9]*)
    echo 'REDIS_PASSWORD may hold letters and digits only; make one with: openssl rand -hex 16' >&2
    exit 1
    ;;
esac

umask 077
printf 'include /etc/redis.conf\nrequirepass %s\n' "$REDISCLI_AUTH" >/tmp/redis.conf
exec redis-server /tmp/redis.conf
