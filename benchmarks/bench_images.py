"""Sizes of the container images: the whole, what an upgrade with the same packages fetches, and the largest packages.

As root, with podman; the images are built as ``make containers`` builds them. With ``--cpu``, also that without CUDA,
where pip knows a folder with a build of torch for CPUs.

    python -m benchmarks.bench_images --cpu
"""

from __future__ import annotations

import json
import time
from typing import Any

from benchmarks.report import begin, options, write
from tests.containers import cpu_image, stand_ins
from tests.containers.podman import podman

_LARGEST = 12
_SITE = "/opt/ramq/lib/python3.11/site-packages"


def measured(image: str) -> dict[str, Any]:
    """Bytes of an image, of its layers above those of the packages, and MB of its largest packages."""
    history = json.loads(podman("history", "--format=json", image).stdout)
    above = next(
        number for number, layer in enumerate(history) if "pip install --no-deps --require-hashes" in str(layer)
    )
    listed = podman(
        "run", "--rm", "--network=none", image, "sh", "-c", f"du --summarize --block-size=1M {_SITE}/*"
    ).stdout
    packages = sorted(((int(line.split()[0]), line.rpartition("/")[2]) for line in listed.splitlines()), reverse=True)
    return {
        "image": image,
        "bytes": int(json.loads(podman("image", "inspect", image).stdout)[0]["Size"]),
        "bytes_above_the_packages": sum(int(layer["size"]) for layer in history[:above]),
        "largest_packages_mb": {name: size for size, name in packages[:_LARGEST]},
    }


def main() -> None:
    """Build, measure, print and write."""
    parser = options(__doc__)
    parser.add_argument("--cpu", action="store_true", help="also the image without CUDA")
    chosen = parser.parse_args()
    report = begin()
    started = time.monotonic()
    stand_ins.prepare()
    report["built_or_found_seconds"] = round(time.monotonic() - started)
    rows = [measured(stand_ins.WORKER), measured(stand_ins.WEB)]
    if chosen.cpu:
        torch = cpu_image.wheel()
        if torch is None:
            parser.error("pip knows no folder (find-links) with a build of torch for CPUs")
        cpu_image.make(torch)
        rows.append(measured(cpu_image.WORKER) | {"torch": torch.name})
        podman("rmi", "--force", cpu_image.WORKER)
    for row in rows:
        print(json.dumps(row), flush=True)
    write(chosen, "images", report | {"rows": rows})


if __name__ == "__main__":
    main()
