#!/bin/sh
# Wait until the cloud says that this spot machine will be taken away, then run a command:
#   spot-notice.sh systemctl stop 'ramq-worker@*.service'
# Amazon (with tokens, IMDSv2) and Google are asked every five seconds. Kubernetes and Slurm tell their workers
# themselves; this is for machines without either.
set -eu

amazon=${RAMQ_SPOT_AMAZON:-http://169.254.169.254}
google=${RAMQ_SPOT_GOOGLE:-http://metadata.google.internal}
pause=${RAMQ_SPOT_PAUSE:-5}

[ $# -gt 0 ] || { echo "spot-notice.sh: name the command to run, for example: systemctl stop 'ramq-worker@*.service'" >&2; exit 2; }

is_taken_by_amazon() {
  token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$amazon/latest/api/token") || return 1
  # 404 until there is a notice.
  curl -sf -m 2 -o /dev/null -H "X-aws-ec2-metadata-token: $token" "$amazon/latest/meta-data/spot/instance-action"
}

is_taken_by_google() {
  [ "$(curl -sf -m 2 -H 'Metadata-Flavor: Google' "$google/computeMetadata/v1/instance/preempted")" = TRUE ]
}

until is_taken_by_amazon || is_taken_by_google; do
  sleep "$pause"
done
echo "spot-notice.sh: this machine will be taken away; running: $*" >&2
exec "$@"
