#!/bin/sh
# Installs what the tests of alerts and dashboard run: prometheus and promtool, as Debian and Ubuntu package them.
# Nothing is started: the tests start their own.
set -eu
export DEBIAN_FRONTEND=noninteractive
if ! command -v prometheus > /dev/null || ! command -v promtool > /dev/null; then
    apt-get update
    apt-get install --yes --no-install-recommends prometheus
fi
promtool --version
