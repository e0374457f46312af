"""The stages of the pipeline, one file each: fetch, decode, batch, infer, write."""
