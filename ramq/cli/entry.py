"""What the command `ramq` runs. Imports nothing until Ctrl-C is looked after: importing takes a moment."""

import gc
import sys

_OBJECTS_UNTIL_COLLECTED = 20_000
"""Loading modules makes hundreds of thousands of objects that stay: with Python's 700, a tenth of the time is lost."""


def run() -> None:
    """Run the command line; interrupted while it is still being loaded, it ends as after any Ctrl-C."""
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTED)
    try:
        from ramq.cli.main import main  # noqa: PLC0415

        main()
    except KeyboardInterrupt:
        sys.exit(130)
