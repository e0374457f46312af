"""The number of files that a command may open."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOWN = """
import resource, sys
from unittest.mock import patch
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from ramq import limits
from ramq.cli import main
with patch.object(sys, "argv", ["ramq", "--version"]), patch.object(limits, "MOST_FILES", {most}):
    try:
        main.main()
    except SystemExit:
        print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "most", "expected"),
    [(256, 900, 5_000, 900), (900, 900, 5_000, 900), (256, 900, 600, 600), (700, 900, 600, 700)],
)
def test_a_command_may_open_as_many_files_as_the_system_allows(soft: int, hard: int, most: int, expected: int) -> None:
    script = SHOWN.format(soft=soft, hard=hard, most=most)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert [int(number) for number in done.stdout.splitlines()[-1].split()] == [expected, hard]
