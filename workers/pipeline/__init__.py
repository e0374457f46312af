"""From a leased shard to results in the database, in stages. Each stage has its own threads.

pipeline   connects the stages by queues and handles their failures
fetch, recall, decode, batch, infer, write   the stages
decoders   child processes that decode, because an image may crash them
leases     the shards that this process holds: renewed, closed, released;  worked_time  how long it worked on each
work       one image in the pipeline;  retry  which error is retried, recorded, or stops the worker
fitness    what this worker cannot do at the moment, and why;  model_holder  the loaded models
"""
