#!/bin/sh
# Starts SeaweedFS as one S3 server that knows one user, whose keys come from the environment.
set -eu

case ${S3_ACCESS_KEY:?}${S3_SECRET_KEY:?} in
*[!A-Za-z0-9]*)
    echo 'S3_ACCESS_KEY and S3_SECRET_KEY may hold letters and digits only; make one with: openssl rand -hex 16' >&2
    exit 1
    ;;
esac

umask 077
cat >/tmp/s3.json <<END
{
  "identities": [
    {
      "name": "wastestream",
      "credentials": [{"accessKey": "$S3_ACCESS_KEY", "secretKey": "$S3_SECRET_KEY"}],
      "actions": ["Admin", "Read", "Write", "List", "Tagging"]
    }
  ]
}
END

# Volumes are files of up to 1 GB, as many as the disk holds; they grow as they fill. The only master elects itself;
# with the 10 s of timeout that suit several machines, a killed server would be away for 13 to 20 s.
exec weed -logtostderr=true server \
    -dir=/data \
    -ip=s3 \
    -ip.bind=0.0.0.0 \
    -master.volumeSizeLimitMB=1024 \
    -master.electionTimeout=1s \
    -volume.max=0 \
    -volume.preStopSeconds=1 \
    -s3 \
    -s3.port=8333 \
    -s3.config=/tmp/s3.json
