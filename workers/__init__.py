"""Workers: processes that take jobs from the ledger and recognise images. Importing this package loads nothing.

runner      one process from its start to its end;  app, tasks, messages  its Celery side
lifecycle   the background loops: heartbeat, listing, wake-ups, index, webhook
planner     cuts listings into shards;  sources  what it lists;  ranges  leaves a part of it to others
pipeline    turns shards into results: fetch, decode, batch, infer, write
"""
