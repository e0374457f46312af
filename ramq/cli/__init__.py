"""The command line: one file per noun. Only ``worker`` and a search by text or picture import torch."""
