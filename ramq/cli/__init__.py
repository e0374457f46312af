"""The command line, with one file per group of commands.

Only ``worker``, and a search by text or picture, import torch.
"""
