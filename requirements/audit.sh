#!/bin/sh
# Asks whether any locked package has a known vulnerability.
# usage: requirements/audit.sh PIP-AUDIT
# Exit code: 0 none is known; 1 some are; 3 nobody could tell, because the index does not answer or does not know a package.
set -u
pip_audit=$1
cd "$(dirname "$0")" || exit 2
told=0
for lock in run.txt gpu.txt demo.txt dev.txt; do
  # Without --strict a package that the index knows nothing about would pass as harmless.
  if said=$("$pip_audit" --strict --disable-pip --require-hashes --progress-spinner off -r "$lock" 2>&1); then
    echo "$lock: no known vulnerability"
    continue
  fi
  case $said in
    *Found*known\ vulnerabilit*)
      echo "$lock:"
      echo "$said"
      told=1
      ;;
    *)
      echo "$lock: not audited: $(echo "$said" | tail -n 1)"
      [ "$told" = 1 ] || told=3
      ;;
  esac
done
exit "$told"
