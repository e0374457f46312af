"""How the steps of data sets are done: phase by phase, in tasks that any worker takes.

``steps.PHASES`` has the phases of each step in order, and ``builder`` runs them. A phase is a module here; ``phase``
says what the builder asks of it.

* ``generate``: captions and tags of a model. ``clean``: wrong tags are dropped. Both are lists of phases, too.
* ``jobs``: phases that wait for jobs. ``tally``: phases that sum up what tasks did.
* ``scale``, ``cluster``: the phases of cleaning that compute; ``regions_of_tag``, ``pictures`` and ``spool`` read what
  they need, ``judge`` asks a model's tags about a region.
"""
