"""The examples for machines without Kubernetes: units of systemd, the watch for spot notices."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from ramq.settings import Settings
from tests.services.loopback import answering_with
from tests.unit.test_compose import parse

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "examples" / "systemd"
SPOT = ROOT / "examples" / "spot-notice.sh"
UNITS = {"ramq-worker@.service": "ramq-worker@cpu.service", "ramq-web.service": "", "ramq-spot-notice.service": ""}
EXPOSURE = {"ramq-worker@.service": 20, "ramq-web.service": 20, "ramq-spot-notice.service": 50}
"""The most that ``systemd-analyze security`` may say, from 0 (safe) to 100."""


class _Twice(dict[str, str]):
    """Lets an option stand several times in a unit, as systemd does: the values are joined."""

    def __setitem__(self, key: str, value: str) -> None:
        if key in self and isinstance(value, list):
            value = [*self[key], *value]
        super().__setitem__(key, value)


def unit(name: str) -> configparser.RawConfigParser:
    read = configparser.RawConfigParser(strict=False, dict_type=_Twice, delimiters=("=",))
    read.optionxform = str  # type: ignore[assignment, method-assign]  # as documented
    read.read(SYSTEMD / name)
    return read


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit_and_finds_it_well_guarded(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here")
    text = (SYSTEMD / name).read_text().replace("/opt/ramq/bin/ramq", sys.executable)
    (tmp_path / name).write_text(text.replace("/opt/ramq/examples", str(ROOT / "examples")))
    checked = UNITS[name] or name
    if UNITS[name]:
        (tmp_path / checked).symlink_to(name)
    for command in (
        ["verify", "--man=no"],
        ["security", "--offline=yes", f"--threshold={EXPOSURE[name]}"],
    ):
        done = subprocess.run(
            ["systemd-analyze", *command, f"./{checked}"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["ramq-worker@.service", "ramq-web.service"])
def test_units_run_commands_and_set_settings_that_there_are(name: str) -> None:
    service = unit(name)["Service"]
    command = shlex.split(service["ExecStart"].replace("%i", "cuda:0"))
    assert command[0] == "/opt/ramq/bin/ramq"
    parse(["ramq", *command[1:]])
    known = {f"RAMQ_{field.upper()}" for field in Settings.model_fields}
    given = dict(each.split("=", 1) for each in shlex.split(service["Environment"]))
    assert set(given) <= known
    if name == "ramq-worker@.service":
        assert service["KillMode"] == "mixed"  # decoders live until the batch in hand is written
        assert float(given["RAMQ_GRACE_SECONDS"]) <= float(service["TimeoutStopSec"]) - 10


def notices(answers: dict[str, list[tuple[int, str]]]) -> type[BaseHTTPRequestHandler]:
    """A metadata service: the answers to each path, in turn; the last one stays."""

    class Metadata(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            left = answers.get(self.path, [(404, "")])
            status, body = left.pop(0) if len(left) > 1 else left[0]
            is_google = self.path.startswith("/computeMetadata")
            if is_google and self.headers["Metadata-Flavor"] != "Google":
                status = 403
            if self.path.endswith("instance-action") and self.headers["X-aws-ec2-metadata-token"] != "token":
                status = 401
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

    return Metadata


@pytest.mark.parametrize(
    "answers",
    [
        {
            "/latest/api/token": [(200, "token")],
            "/latest/meta-data/spot/instance-action": [(404, ""), (404, ""), (200, '{"action": "terminate"}')],
        },
        {"/computeMetadata/v1/instance/preempted": [(200, "FALSE"), (200, "FALSE"), (200, "TRUE")]},
    ],
    ids=["amazon", "google"],
)
def test_a_command_is_run_when_the_cloud_gives_notice_and_not_before(
    answers: dict[str, list[tuple[int, str]]], tmp_path: Path
) -> None:
    with answering_with(notices(answers)) as url:
        done = subprocess.run(
            [str(SPOT), "touch", str(tmp_path / "stopped")],
            env={"PATH": "/usr/bin:/bin", "RAMQ_SPOT_AMAZON": url, "RAMQ_SPOT_GOOGLE": url, "RAMQ_SPOT_PAUSE": "0.05"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "stopped").exists()
    assert [len(left) for path, left in answers.items() if not path.endswith("token")] == [1]


def test_without_a_command_the_watch_for_notices_says_what_to_do() -> None:
    done = subprocess.run([str(SPOT)], capture_output=True, text=True, check=False)
    assert (done.returncode, "name the command to run" in done.stderr) == (2, True)
