"""The entry point of the command `ramq`.

It handles Ctrl-C before it imports anything else, because importing takes a moment.
"""

import gc
import sys

_OBJECTS_UNTIL_COLLECTED = 20_000
"""The threshold of the garbage collector. Loading modules creates hundreds of thousands of lasting objects.

With Python's default of 700, collecting would take a tenth of the start-up time.
"""


def run() -> None:
    """Run the command line. Ctrl-C while it is still loading has the usual exit code too."""
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTED)
    try:
        from ramq.cli.main import main  # noqa: PLC0415

        main()
    except KeyboardInterrupt:
        sys.exit(130)
