"""Workers: processes that take jobs from the ledger and recognise images. Importing this package loads nothing.

runner      one process from its start to its end;  app, tasks, messages  its Celery side
lifecycle   the loops beside the work: heartbeat, listing, wake-ups, index, webhook
planner     from a listing to shards
pipeline    from a shard to results: fetch, decode, batch, infer, write
"""
