"""From a leased shard to results in the database, a stage at a time, each with its own threads.

pipeline   puts the stages together: queues between them, and what happens when one fails
fetch, decode, batch, infer, write   the stages; ``decoders`` are processes, since a picture may kill them
leases     shards held by this process: renewed, closed, given back
work       one image on its way;  retry  which error is tried again, recorded, or stops the worker
fitness    what this worker cannot do at the moment, and why;  model_holder  the loaded models
"""
