"""Many slow pictures to search by, sent at once: everything else is answered meanwhile."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.services.web import services_of, serving

if TYPE_CHECKING:
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

CLIENTS = 45


def slow_pdf() -> bytes:
    """A page that takes years to draw: 14 forms, each of which draws the next one 20 times."""
    depth, times = 14, 20
    box = b"/MediaBox [0 0 200 200]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R " + box + b" /Contents 4 0 R /Resources << /XObject << /F 5 0 R >> >> >>",
        b"<< /Length 5 >>\nstream\n/F Do\nendstream",
    ]
    for level in range(depth):
        is_last = level == depth - 1
        drawn = b"0 0 9 9 re f\n" if is_last else b"/F Do\n" * times
        inner = b"" if is_last else b" /Resources << /XObject << /F %d 0 R >> >>" % (6 + level)
        about = b"<< /Type /XObject /Subtype /Form /BBox [0 0 200 200]" + inner + b" /Length %d >>" % len(drawn)
        objects.append(about + b"\nstream\n" + drawn + b"endstream")
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


def test_slow_pictures_to_search_by_do_not_stop_the_server(client: TestClient) -> None:
    picture = slow_pdf()

    def search(url: str) -> tuple[int, str, str | None]:
        sent = urllib.request.Request(f"{url}/v1/search/image", picture, {"Content-Type": "application/pdf"})
        try:
            with urllib.request.urlopen(sent, timeout=120) as answer:
                return answer.status, "", None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["type"], error.headers["Retry-After"]

    with serving(services_of(client)) as url, ThreadPoolExecutor(CLIENTS) as pool:
        began = time.monotonic()
        answers = [pool.submit(search, url) for _ in range(CLIENTS)]
        slowest = dict.fromkeys(("/healthz", "/readyz", "/v1/jobs", "/"), 0.0)
        while time.monotonic() < began + 8:
            time.sleep(0.2)
            for path in slowest:
                asked = time.monotonic()
                with urllib.request.urlopen(url + path, timeout=60) as answer:
                    assert answer.status == 200
                slowest[path] = max(slowest[path], time.monotonic() - asked)
        found = Counter(answer.result() for answer in answers)
        seconds = time.monotonic() - began
    assert max(slowest.values()) < 5, slowest
    assert seconds < 40
    refused, busy = (422, "urn:ramq:problem:usage", None), (503, "urn:ramq:problem:busy", "5")
    assert set(found) == {refused, busy}, found
    assert found[refused] <= 12
