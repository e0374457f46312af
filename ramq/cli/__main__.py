"""``python -m ramq.cli``: for launchers that start a module, such as ``torchrun`` and ``accelerate launch``."""

from ramq.cli.entry import run

if __name__ == "__main__":
    run()
