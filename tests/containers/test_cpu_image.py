"""An image for machines without a GPU: CUDA is not in it, and workers recognise as before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.containers import cpu_image, stand_ins
from tests.containers.composition import composition
from tests.containers.podman import podman
from tests.services.recognised import CAT, PHOTOGRAPHS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def image(images: None) -> Iterator[str]:
    torch = cpu_image.wheel()
    if torch is None:
        pytest.skip("pip knows no folder (find-links) with a build of torch for CPUs: torch-*+cpu-cp311-*.whl")
    cpu_image.make(torch)
    yield cpu_image.WORKER
    podman("rmi", "--force", cpu_image.WORKER, check=False)


def size(image: str) -> int:
    """Bytes of the files of all layers."""
    return int(json.loads(podman("image", "inspect", image).stdout)[0]["Size"])


def test_cuda_is_not_in_it(image: str) -> None:
    listed = podman("run", "--rm", "--network=none", image, "pip", "list", "--format=json").stdout
    names = {package["name"] for package in json.loads(listed)}
    assert {name for name in names if name.startswith(("nvidia", "cuda", "triton"))} == set()
    assert {"torch", "torchvision", "faiss-cpu", "ramq"} <= names
    assert size(image) < size(stand_ins.WORKER) / 2


def test_workers_of_it_recognise(image: str, photographs: Path, tmp_path: Path) -> None:
    override = tmp_path / "cpu.yml"
    override.write_text(f'services: {{ worker: {{ image: "{image}" }} }}\n')
    with composition(tmp_path, override) as running:
        running.up()
        running.put((path.relative_to(photographs).as_posix(), path.read_bytes()) for path in photographs.rglob("*.*"))
        job = running.recognise()
        assert (job.state, job.done, job.failed) == ("done", PHOTOGRAPHS + 1, 2)
        with running.client() as ramq:
            assert [hit.key for hit in ramq.search(tags=[CAT])] == ["chelsea.png"]
