"""Spaces: kinds of vectors of images beside those of recognition.

Each is a stage of its own, with its own generations and its own index. All are in the table ``look`` (``looks``), since
a row belongs to a generation, and a generation to a stage. A new one needs its name here, and its models in
``workers.messages``.
"""

LOOK = "look"
"""The space of how images look."""

SPACES = (LOOK, "siglip", "clip", "dino")
"""All spaces. Each is the name of a stage."""

TEXT = "text"
"""What searches call the vectors of recognition, which answer to texts. Every recognised image has one."""

NAMES = (TEXT, *SPACES)
"""What a search can compare its text and its image by."""


def made_by(space: str, model: str | None = None) -> str:
    """Return the command that makes the vectors of a space. ``model``: of the generation that they belong to."""
    command = "ramq look" if space == LOOK else f"ramq look --space {space}"
    return command if model is None else f"{command} --model {model}"
