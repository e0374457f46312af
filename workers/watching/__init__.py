"""Watched archives.

``loop`` is what a worker does for them: ``schedule`` makes their jobs, ``receiving`` decides whose events it takes, and
``listeners`` are the kinds of those.
"""
