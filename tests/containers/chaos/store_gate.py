"""The door of the cluster's object store, which can answer 503, be slow, or cut answers short: run as a script.

    python -m tests.containers.chaos.store_gate UPSTREAM PORT FILE

``FILE`` holds the fault's name, or nothing. It is read ten times a second.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.services.fault_proxy import Cut, Fault, FaultProxy, Reset, Rule, Stall, Status

FAULTS: dict[str, Fault] = {
    "503": Status(503),
    "cut": Cut(200),
    "reset": Reset(),
    "stall": Stall(),
}


def main() -> None:
    """Serve until the process is ended."""
    upstream, port, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    proxy, now = FaultProxy(upstream, host="0.0.0.0", port=port), ""
    while True:
        wanted = path.read_text().strip()
        if wanted != now:
            name, _, share = wanted.partition(" ")
            if name:
                proxy.storm(Rule(FAULTS[name], share=float(share or 1)))
            else:
                proxy.heal()
            now = wanted
        proxy.requests.clear()
        time.sleep(0.1)


if __name__ == "__main__":
    main()
