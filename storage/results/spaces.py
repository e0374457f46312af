"""Spaces: kinds of vectors of images beside those of recognition.

Each is a stage of its own, with its own generations and its own index. All are in the table ``look`` (``looks``), since
a row belongs to a generation, and a generation to a stage. A new one needs its name here, and its models in
``workers.messages``.
"""

LOOK = "look"
"""The space of how images look."""

SPACES = (LOOK, "siglip", "clip", "dino")
"""All spaces. Each is the name of a stage."""
