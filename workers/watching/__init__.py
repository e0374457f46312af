"""Watched archives: ``schedule`` makes their jobs, ``receiving`` takes events, ``listeners`` are the kinds of those."""
