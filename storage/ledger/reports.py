"""The completion report of a job: the outcome of every key, and one hash over all of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import jobs, report_rows
from storage.ledger.report_rows import SCANS_FROM
from storage.ledger.views import PAGES, JobReport
from storage.objects.pages import IS_FURTHER_PAGE_OF, VERSION_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

_encode = json.JSONEncoder(ensure_ascii=False).encode

_ODD = """
    SELECT count(share) AS share, count(tiles) AS tiles, count(*) FILTER (WHERE pages > 1) AS pages
    FROM opening WHERE job_id = :job_id
"""
# Of a file with more pages than become images, those behind the last one.
_LEFT_OUT = f"""
    SELECT coalesce(sum(greatest(0, opening.pages - 1 - (
        SELECT count(*) FROM image
        WHERE image.archive_id = file.archive_id AND image.missing_since IS NULL
            AND {IS_FURTHER_PAGE_OF.format(key="file.key")}))), 0)
    FROM opening JOIN image AS file ON file.id = opening.image_id
    WHERE opening.job_id = :job_id AND opening.pages > 1 AND NOT starts_with(file.version, '{VERSION_PREFIX}')
"""  # noqa: S608  (constants)


def summary(session: Session, job_id: int, scans_from: int = SCANS_FROM) -> JobReport:
    """Return the current report of a job. Must be the first statement in its transaction.

    ``scans_from``: how many listed keys make a job large: see ``report_rows``.

    Raises:
        NotFoundError: no such job.
    """
    _begin(session)
    job = jobs.view(session, job_id)
    generation = session.execute(
        text(
            """SELECT generation.id, fingerprint, weights_sha256 FROM job
               JOIN generation ON generation.id = job.generation_id WHERE job.id = :job_id"""
        ),
        {"job_id": job_id},
    ).one_or_none()
    odd = session.execute(text(_ODD), {"job_id": job_id}).one()
    has_pages = bool(job.options.get(PAGES))
    left_out = session.scalar(text(_LEFT_OUT), {"job_id": job_id}) if has_pages else 0
    hashed, classes = hashlib.sha256(), Counter[str]()
    first = last = None
    n_lines = n_erased = n_ignored = 0
    for key, _, outcome, error_class, reason in report_rows.rows(session, job_id, scans_from):
        if key is None:
            n_erased += 1
            continue
        hashed.update(_line(key, outcome, error_class, reason))
        n_lines += 1
        n_ignored += reason is not None
        first, last = key if first is None else first, key
        if error_class is not None:
            classes[error_class] += 1
    return JobReport(
        job_id=job.id,
        source=job.source,
        archive=job.archive,
        state=job.state,
        is_final=job.is_over,
        model=job.model,
        captioner=job.captioner,
        generation_id=generation.id if generation else None,
        fingerprint=generation.fingerprint if generation else None,
        weights_sha256=generation.weights_sha256 if generation else None,
        listed=job.listed,
        done=job.done,
        skipped=job.skipped,
        failed=job.failed,
        pending=job.pending,
        ignored=job.ignored,
        ignored_by_reason=job.ignored_by_reason,
        failures_by_class=dict(sorted(classes.items())),
        truncated=odd.share,
        tiled=odd.tiles,
        first_pages=0 if has_pages else odd.pages,
        pages_left_out=int(left_out or 0),
        lines=n_lines,
        erased=n_erased + job.ignored - n_ignored,
        folder_markers=job.listed - (n_lines - n_ignored) - n_erased,
        first_key=first,
        last_key=last,
        sha256=hashed.hexdigest(),
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


def lines(session: Session, job_id: int, scans_from: int = SCANS_FROM) -> Iterator[bytes]:
    """Yield one JSON line per key, in byte order of keys: key, outcome, class; for ignored keys also the reason.

    Must be the first statement in its transaction. ``summary`` gives the SHA-256 of all lines. Versions are omitted: a
    later job that finds a changed object replaces its record, and that must not change the report of an earlier job.
    ``scans_from``: how many listed keys make a job large: see ``report_rows``.

    Raises:
        NotFoundError: no such job.
    """
    _begin(session)
    jobs.view(session, job_id)
    for key, _, outcome, error_class, reason in report_rows.rows(session, job_id, scans_from):
        if key is not None:
            yield _line(key, outcome, error_class, reason)


def _begin(session: Session) -> None:
    """Make all statements see one snapshot, and allow a slow reader: nothing is locked."""
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1h'"))


def _line(key: str, outcome: str, error_class: str | None, reason: str | None) -> bytes:
    told = {"key": key, "outcome": outcome, "class": error_class}
    if reason is not None:  # only then: the lines of earlier reports, and so their hashes, stay as they are
        told["reason"] = reason
    return _encode(told).encode() + b"\n"
