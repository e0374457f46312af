"""Data sets for training: their versions, pictures and labels, and the tasks that make them.

* ``versions``: data sets and their versions; steps that begin, pause, go on and end.
* ``tasks``: pieces of the work of a step, leased by workers.
* ``items``: pictures of a version, with captions and splits.
* ``labels``: tags of pictures, kept or dropped, with their origins.
* ``content``: counts and the hash of a whole version.
* ``step_jobs``: jobs that a step begins on the pictures, and waits for.
* ``generated``: what recognition made of the pictures.
* ``sought``: the tags that a detector looks for in them.
* ``tag_regions``: the regions of a tag.
* ``partitions``: where the rows of a version are.
"""
