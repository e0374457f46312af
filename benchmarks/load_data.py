"""Made-up images with their index, and some photographs: what the web server is asked for under load.

They can be kept in a folder, because a million of them take two minutes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.search_data import CHUNK, Maker, load, prepare
from ram_core import load_text_encoder
from ramq.demo_photos import installed_photographs
from ramq.embedded import embedded
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import MAX_SEGMENT_ROWS, IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.migrate import upgrade
from storage.objects.base import S3Options
from storage.objects.source import open_store, parse_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from ramq.embedded import EmbeddedServices

PICTURES = 240
"""Images whose file exists, so that thumbnails are made of photographs."""


class Data(NamedTuple):
    """A filled database that runs, the folder of its index, and the ids of the images that have a file."""

    services: EmbeddedServices
    folder: Path
    pictures: list[int]


@contextmanager
def filled(rows: int, kept: Path | None) -> Iterator[Data]:
    """Run the services with so many images during the block.

    Args:
        rows: images.
        kept: a folder in which they are left for the next time, and looked for first; None: none.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if kept is None else kept / str(rows)
        folder.mkdir(parents=True, exist_ok=True)
        services = stack.enter_context(embedded(folder / "services"))
        done = folder / "filled.json"
        engine = make_engine(services.database_url)
        upgrade(engine)
        if not done.exists():
            pictures = fill(engine, folder, rows)
            done.write_text(json.dumps({"pictures": pictures}), encoding="utf-8")
        engine.dispose()
        yield Data(services, folder, json.loads(done.read_text(encoding="utf-8"))["pictures"])


def fill(engine: Engine, folder: Path, rows: int) -> list[int]:
    """Fill a database, its index and some of its files; return the ids of the images that have one."""
    width = int(load_text_encoder("lite").encode(["a cat"]).shape[1])
    archive = folder / "archive"
    provenance = prepare(engine, archive.as_uri(), width)
    maker = Maker(width)
    builder = IndexBuilder(engine, FolderStorage(folder / "index"), folder / "cache")
    published = 0
    for first in range(0, rows, CHUNK):
        load(engine, maker.chunk(first // CHUNK, min(CHUNK, rows - first)), provenance)
        done = min(rows, first + CHUNK)
        if done - published + CHUNK > MAX_SEGMENT_ROWS or done == rows:
            builder.publish_new(provenance.generation_id, force=True)
            published = done
    while builder.compact(provenance.generation_id):
        pass
    pictures = _give_files(engine, archive, rows)
    with unit_of_work(engine) as session:
        driver_connection(session).execute("ANALYZE")
    return pictures


def _give_files(engine: Engine, archive: Path, rows: int) -> list[int]:
    """Put photographs where some of the keys are, and tell the database which version that is."""
    photographs = installed_photographs()
    if not photographs:
        raise SystemExit("no photographs are installed: pip install scikit-image scikit-learn")
    with unit_of_work(engine) as session:
        every = max(1, rows // PICTURES)
        found = driver_connection(session).execute("SELECT id, key FROM image WHERE id %% %s = 0", (every,)).fetchall()
        for place, (_, key) in enumerate(found):
            path = archive / key
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photographs[place % len(photographs)], path)
        store = open_store(parse_source(str(archive)), S3Options())
        versions = {info.key: info.version for page in store.pages("", None) for info in page}
        for image_id, key in found:
            driver_connection(session).execute("UPDATE image SET version = %s WHERE id = %s", (versions[key], image_id))
    return [image_id for image_id, _ in found]
