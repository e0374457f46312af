"""How the steps of data sets are done: phase by phase, in tasks that any worker takes.

``steps.PHASES`` has the phases of each step in order, and ``builder`` runs them. A phase is a module here; ``phase``
says what the builder asks of it.
"""
