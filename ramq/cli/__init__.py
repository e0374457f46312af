"""The command line: one file per noun. Torch is imported by no verb but ``worker`` and a search by text or picture."""
