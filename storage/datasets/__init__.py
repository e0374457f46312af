"""Data sets for training: their versions, pictures and labels, and the tasks that make them.

* ``versions``: data sets and their versions; steps that begin, pause, go on and end.
* ``tasks``: pieces of the work of a step, leased by workers.
* ``partitions``: where the rows of a version are.
"""
