"""The checks of ``ramq doctor``. A check returns findings and raises no error. A fault names the command to run next.

``examination`` runs all of them. ``machine`` checks versions, disks, the device and clocks, ``models`` the files of
models, ``database`` the database, its standby and what a restore leaves to do, ``services`` the broker, workers,
watches and the webhook, ``index`` the index and its shadow, ``archives`` archives.
"""

from ramq.doctor.examination import examine

__all__ = ["examine"]
