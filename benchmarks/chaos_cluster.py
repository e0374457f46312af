"""A job on a cluster of containers under faults: is anything lost or done twice, and does search go on?

Each machine is a container of its own on one bridge: three workers, two web servers, PostgreSQL with a streaming
standby, Redis, an object store with a door that can fail. Faults are drawn from a seed: machines are paused and killed,
networks part in one direction or both, links are slow or lossy, clocks are wrong, disks full, names gone, PostgreSQL
crashes or fails over. At the end the database and the store's own list are compared, key by key.

    python -m benchmarks.chaos_cluster --images 10000 --faults 25 --seeds 1 2 3

The images are those of ``tests.containers.stand_ins``, with the code of this checkout. The model is the null model of
the tests: what is measured is everything around it. Needs root, cc and Debian's podman, as ``make containers``
does. Exits 1 if anything is wrong.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import begin, options, write
from tests.containers import stand_ins
from tests.containers.chaos.cluster import made_images
from tests.containers.chaos.run import BATCH, LEASE_SECONDS, WORKERS, Plan, run_plan
from tests.containers.podman import missing_tools

if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Run each seed, print and write its figures. Logs of the machines stay only where something failed."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=25)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--between", type=float, nargs=2, default=[8.0, 14.0], help="seconds between two faults")
    chosen = parser.parse_args()
    if reason := missing_tools():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, _end)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not all(map(stand_ins.exists, (stand_ins.WORKER, stand_ins.WEB, stand_ins.POSTGRES))):
        stand_ins.prepare()
    least, most = chosen.between
    for seed in chosen.seeds:
        print(f"seed {seed}", flush=True)
        report = begin(load_after=0.0)
        folder = Path(tempfile.mkdtemp(prefix="ramq-cluster-"))
        folder.chmod(0o755)  # machines run as another user
        wanted = Plan(chosen.images, seed, chosen.faults, (least, most))
        figures = run_plan(folder, made_images(folder), wanted)
        if not figures["machines_with_a_traceback"]:
            _remove(folder)
        report["machine"]["load_after"] = os.getloadavg()[0]
        setting = {"images": wanted.images, "seed": seed, "workers": WORKERS, "web_servers": 2, "batch": BATCH}
        report |= setting | {"lease_seconds": LEASE_SECONDS} | figures
        print({key: value for key, value in report.items() if key != "timeline"}, flush=True)
        write(chosen, f"chaos-cluster-seed-{seed}", report)


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(1)  # so that the machines are removed


if __name__ == "__main__":
    main()
