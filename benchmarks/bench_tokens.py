"""What it costs to find out who sends a request, and how soon a revoked token is refused: real PostgreSQL, real HTTP.

    python -m benchmarks.bench_tokens --against ../older-checkout

One client asks for the tag rules, one short statement, on connections that are kept: without a token, with the first
and the last of 20 tokens of the settings, and, in this version, with the token of a user among 1 and among 2,000.
Servers of both checkouts are asked in turns, in small rounds, so that what else the machine does meets all of them.
Then tokens are revoked by another process, and a server is asked until it refuses them.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import urllib3

from benchmarks.report import begin, options, write
from ramq.embedded.process import spawn
from ramq.settings import Settings
from ramq.wiring import open_services

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ramq.wiring import Services

HERE = Path(__file__).parents[1]
PATH = "/v1/policies"
OF_SETTINGS = [f"secret-of-the-settings-number-{number:02}" for number in range(20)]
MANY = 2_000


class Asked:
    """A server, what it is asked with, and how long its answers took, in seconds."""

    def __init__(self, url: str, process: psutil.Process, secret: str | None) -> None:
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=60)
        self._url = f"{url.rstrip('/')}{PATH}"
        self._headers = {"authorization": f"Bearer {secret}"} if secret else {}
        self._process = process
        self.seconds: list[float] = []
        self.cpu_seconds = 0.0

    def status(self) -> int:
        """Ask once."""
        return self._pool.request("GET", self._url, headers=self._headers).status

    def round(self, requests: int) -> None:
        """Ask so many times, one after another."""
        before = self._cpu()
        for _ in range(requests):
            began = time.perf_counter()
            status = self.status()
            self.seconds.append(time.perf_counter() - began)
            if status != 200:
                raise SystemExit(f"{self._url}: {status}")
        self.cpu_seconds += self._cpu() - before

    def report(self) -> dict[str, float]:
        """Return the median and the 99th percentile, and the time of a core that the server took, in milliseconds."""
        cuts = statistics.quantiles(self.seconds, n=100)
        return {
            "p50_ms": round(1000 * cuts[49], 3),
            "p99_ms": round(1000 * cuts[98], 3),
            "server_cpu_ms": round(1000 * self.cpu_seconds / len(self.seconds), 3),
        }

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def web(checkout: Path, folder: Path, tokens: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """Run ``ramq web`` of a checkout on an embedded database in ``folder``; give its address and its process."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"web-{time.monotonic_ns()}.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAMQ_")},
        "RAMQ_DATA_DIR": str(folder),
        "RAMQ_RATE_LIMIT": "0",
        "RAMQ_API_TOKENS": ",".join(tokens),
        "PYTHONPATH": str(checkout),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "ramq.cli.main", "web", "--port", "0"]
    process = spawn(command, cwd=checkout, log=log, stop_signal=signal.SIGTERM, env=environment)
    try:
        while not (found := re.search(r"http://\S+", log.read_text(encoding="utf-8"))):
            if process.poll() is not None:
                raise SystemExit(f"ramq web did not start: {log.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        yield found[0], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def user_with_token(services: Services, name: str) -> str:
    """Add a user and return the secret of a new token."""
    services.accounts.add(name, "admin")
    return services.accounts.create_token(name).secret


def cases(stack: ExitStack, checkouts: dict[str, Path], folder: Path) -> dict[str, Asked]:
    """Start the servers, and return what is asked of them."""
    found = {}
    for version, checkout in checkouts.items():
        for name, tokens in (("open", []), ("settings", OF_SETTINGS)):
            url, process = stack.enter_context(web(checkout, folder / version / name, tokens))
            if not tokens:
                found[f"{version}: no token"] = Asked(url, process, None)
                continue
            found[f"{version}: first of {len(tokens)} in the settings"] = Asked(url, process, tokens[0])
            found[f"{version}: last of {len(tokens)} in the settings"] = Asked(url, process, tokens[-1])
    for name, others in (("one", 0), ("many", MANY - 1)):
        data = folder / "after" / name
        url, process = stack.enter_context(web(checkouts["after"], data, []))
        with open_services(Settings(data_dir=data)) as services:
            secret = user_with_token(services, "boss")
            for number in range(others):
                user_with_token(services, f"user-{number}")
        found[f"after: user, {others + 1:,} tokens"] = Asked(url, process, secret)
    return found


def bound(folder: Path, times: int) -> dict[str, float]:
    """Return how long after its revocation a token was refused by a server that did not revoke it, in seconds."""
    with web(HERE, folder, []) as (url, process), open_services(Settings(data_dir=folder)) as services:
        user_with_token(services, "boss")
        took = []
        for number in range(times):
            services.accounts.add(f"user-{number}", "look")
            made = services.accounts.create_token(f"user-{number}")
            asked = Asked(url, process, made.secret)
            while asked.status() != 200:
                time.sleep(0.02)
            time.sleep(0.37 * number % 2)  # at different ages of what the server knows
            services.accounts.revoke(made.token.id)
            began = time.perf_counter()
            while asked.status() == 200:
                time.sleep(0.01)
            took.append(time.perf_counter() - began)
    return {"times": times, "median_seconds": round(statistics.median(took), 2), "most_seconds": round(max(took), 2)}


def slow_hash() -> float:
    """Return how long one scrypt with the usual parameters takes, in milliseconds."""
    took = []
    for _ in range(20):
        began = time.perf_counter()
        hashlib.scrypt(b"a token", salt=b"0123456789abcdef", n=2**14, r=8, p=5, maxmem=2**26)
        took.append(time.perf_counter() - began)
    return round(1000 * statistics.median(took), 1)


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Ask everything in turns, print a table and return the figures."""
    checkouts = {**({"before": chosen.against.absolute()} if chosen.against else {}), "after": HERE}
    with tempfile.TemporaryDirectory(prefix="ramq-bench-tokens-") as name, ExitStack() as stack:
        asked = cases(stack, checkouts, Path(name))
        for each in asked.values():
            each.round(50)
            each.seconds.clear()
            each.cpu_seconds = 0.0
        for _ in range(chosen.rounds):
            for each in asked.values():
                each.round(20)
        report = {case: each.report() for case, each in asked.items()}
        stack.close()
        revoked = bound(Path(name) / "bound", chosen.revocations)
    for case, figures in report.items():
        print(f"{case:40} {figures}")
    print("refused after revocation:", revoked)
    return {"requests_each": 20 * chosen.rounds, "http": report, "revoked": revoked, "scrypt_ms": slow_hash()}


def main() -> None:
    """Measure and write the report."""
    parser = options(__doc__)
    parser.add_argument("--against", type=Path, help="another checkout, from before users were in the database")
    parser.add_argument("--rounds", type=int, default=100, help="of 20 requests for each case")
    parser.add_argument("--revocations", type=int, default=12)
    chosen = parser.parse_args()
    report = begin()
    write(chosen, "tokens", report | measure(chosen))


if __name__ == "__main__":
    main()
