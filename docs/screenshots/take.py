"""Takes the pictures in this folder from a running page: ``python docs/screenshots/take.py URL [NAME…]``."""  # noqa: INP001  (a script, no package)

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

# Screen, path, colour scheme, width and height of the window.
SCREENS = (
    ("search", "/?q=a+wild+animal", "light", 1280, 820),
    ("search-dark", "/?q=%28castle+OR+palace%29+-monastery", "dark", 1280, 720),
    ("search-phone", "/?q=a+musical+instrument", "light", 390, 780),
    ("image", "/images/{image}", "light", 1280, 860),
    ("neighbours-text", "/images/{image}?space=text", "light", 1280, 1400),
    ("neighbours-look", "/images/{image}?space=look", "light", 1280, 1400),
    ("image-phone", "/images/{image}", "dark", 390, 780),
    ("jobs", "/jobs", "light", 1280, 860),
    ("job", "/jobs/{job}", "light", 1280, 860),
    ("job-phone", "/jobs/{job}", "dark", 390, 780),
    ("failures", "/jobs/{failed}/failures", "dark", 1280, 480),
    ("archives", "/archives", "light", 1280, 420),
    ("policies", "/archives/policies", "light", 1280, 700),
    ("generations", "/generations?a=1&b=2", "light", 1280, 860),
    ("generations-dark", "/generations", "dark", 1280, 860),
    # The newest data set, after `ramq dataset clean`.
    ("review", "/datasets/{dataset}/review?tag=next", "light", 1280, 860),
    ("teach", "/teach?tag=fortress&{lesson}", "light", 1280, 1240),
)
_ALL_SHOWN = """() => Array.from(document.images).every(
  (image) => image.complete || image.getBoundingClientRect().top > innerHeight
    || image.getBoundingClientRect().left > innerWidth)"""
FLAGS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]


def take(url: str, folder: Path, names: list[str]) -> None:
    """Write one JPEG for each screen in ``names`` (empty: all) of the page at ``url`` into ``folder``."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        data = browser.new_page()
        image = data.request.get(f"{url}/v1/search?tag=castle&limit=1").json()["items"][0]["image_id"]
        jobs = data.request.get(f"{url}/v1/jobs").json()["items"]
        job = jobs[0]["id"]
        failed = jobs[-1]["id"]
        sets = data.request.get(f"{url}/v1/datasets").json()["items"]
        dataset = sets[0]["name"] if sets else ""
        castles = data.request.get(f"{url}/v1/search?tag=castle&limit=9").json()["items"]
        lesson = "&".join(f"yes={hit['image_id']}" for hit in castles)
        for name, path, scheme, width, height in SCREENS:
            if names and name not in names:
                continue
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
            )
            page = context.new_page()
            state = {"image": image, "job": job, "failed": failed, "dataset": dataset, "lesson": lesson}
            page.goto(url + path.format(**state), wait_until="load")
            page.wait_for_function(_ALL_SHOWN)  # thumbnails may be made for the first time
            page.screenshot(path=folder / f"{name}.jpg", type="jpeg", quality=68)
            context.close()
        browser.close()


if __name__ == "__main__":
    take(sys.argv[1].rstrip("/"), Path(__file__).parent, sys.argv[2:])
