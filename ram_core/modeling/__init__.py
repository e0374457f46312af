"""The networks: one file per box of the papers' figures, then one file per paper."""
