#!/bin/sh
# Writes the locks: every package with the hashes of its files, for every platform, and no addresses.
# usage: requirements/lock.sh UV [options of `uv pip compile`, for example --upgrade]
set -eu
uv=$1
shift
lock() {
  name=$1
  shift
  echo "requirements/$name.txt"
  "$uv" pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
    --group pyproject.toml:build "$@" pyproject.toml --output-file "requirements/$name.txt"
}
options=$*
# shellcheck disable=SC2086  # several options are several words
for kind in run gpu demo dev; do
  case $kind in
    run) lock run $options ;;
    *) lock "$kind" --extra "$kind" $options ;;
  esac
done
