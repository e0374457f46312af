"""The ledger: which images to recognise, who does it, and the outcome of each.

    jobs      a request, its counters, its state; ``views`` for people, ``reports`` the outcome of each key
    endings   when a job is done, and what to say until then
    listings  the progress of listing a job's archive, by ``ranges`` of keys; ``unfound`` is what they did not find
    shards    up to 256 images that a worker leases together; they fence every write
    failures  images without a record, by class; ``retries`` reopens their shards, ``breaker`` stops hopeless jobs
    workers   processes and their heartbeats; ``waiting`` says what a job waits for
    rates     how fast earlier jobs of a stage were
    webhook_deliveries  what the webhook has to be sent;  requests  a repeated request starts no second job

Everything runs in the caller's transaction (``storage.database.unit_of_work``).
"""
