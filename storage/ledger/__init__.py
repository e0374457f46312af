"""The ledger: which images are to be recognised, by whom, and what became of each.

    jobs      a request, its counters, its state; ``views`` for people, ``reports`` what became of each key
    listings  how far the listing of a job's archive has come
    shards    up to 256 images that a worker leases together; they fence every write
    failures  images without a record, by class; ``retries`` gives them to a new shard, ``breaker`` stops hopeless jobs
    workers   processes and their heartbeats; ``waiting`` tells what a job waits for
    notices   what the webhook is to be sent;  requests  a request that is repeated makes no second job

Everything happens in the caller's transaction (``storage.database.unit_of_work``).
"""
