"""What benchmarks have in common: two options, what they say of the machine, and the file that they write."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def options(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows what every benchmark can be told, and shows the module's ``doc``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="local", help="of the machine, in the result's file name")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser


def begin(**machine: object) -> dict[str, Any]:
    """Return the head of a report: when it is taken, and on what; ``machine`` is added to that."""
    return {
        "taken_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            # Well above the number of cores, it says that neighbours worked too, and how little a ratio then means.
            "load_before": os.getloadavg()[0],
            **machine,
        },
    }


def write(chosen: argparse.Namespace, kind: str, report: dict[str, Any], *, to_the_minute: bool = False) -> None:
    """Write a report where the options say and print where that is; a later one of the day, or minute, replaces it."""
    print(save(chosen, kind, report, to_the_minute=to_the_minute))


def save(chosen: argparse.Namespace, kind: str, report: dict[str, Any], *, to_the_minute: bool = False) -> Path:
    """Write a report as ``write`` does, and return where it is."""
    when = report["taken_at"][: len("2026-11-21T05:47" if to_the_minute else "2026-11-21")].replace(":", "")
    chosen.output.mkdir(parents=True, exist_ok=True)
    path: Path = chosen.output / f"{kind}-{when}-{chosen.name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return path
