"""One machine of the cluster: a container, its address, and the rules of its firewall."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.containers.podman import Container, run, until

if TYPE_CHECKING:
    import subprocess


@dataclass
class Machine:
    """One container.

    Attributes:
        container: as podman knows it.
        address: its IP address on the bridge, which it keeps over restarts.
        rules: the firewall rules that are in force, each with the process in whose network it is.
    """

    container: Container
    address: str
    rules: dict[tuple[str, ...], int] = field(default_factory=dict)

    def in_network(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of this host in the machine's network."""
        return _within(self.container.pid, *command, check=check)

    def block(self, *rule: str) -> None:
        """Put a rule before the others of its chain: ``OUTPUT -d ADDRESS -j DROP``."""
        chain, *rest = rule
        pid = self.container.pid
        _within(pid, "iptables", "--wait", "--insert", chain, "1", *rest)
        self.rules[rule] = pid

    def unblock(self, *rule: str) -> None:
        """Take the rule away. A machine that was restarted meanwhile has a new network, without rules."""
        if self.rules.pop(rule) == self.container.pid:
            self.in_network("iptables", "--wait", "--delete", *rule)

    def kill(self) -> None:
        """End it without a word, and wait until it is gone."""
        # Not by podman, which may wait long for others who use its storage.
        pid = self.container.pid
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)
        until(lambda: self.container.state == "exited", f"the end of {self.container.name}", seconds=300)


def _within(pid: int, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    # Some systems keep programs for administrators out of the usual path.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return run(["env", f"PATH={path}", "nsenter", f"--target={pid}", "--net", *command], check=check)
