"""What outlives a process. Knows neither models nor the queue nor the web.

    objects   the archives: buckets and folders, listed and read, never written
    ledger    jobs: their listings, shards, leases, failures, reports, and the workers
    results   what is known of images: archives and keys, records, tags, vectors, generations, corrections, erasures
    index     the vector index over the results: FAISS segments or Milvus, and the newest rows from PostgreSQL
    search    queries: their language, conditions, ranking, facets, pages of hits

``search`` stands on ``index``, that on ``results``; ``ledger`` and ``objects`` know none of these. Below all of them:
``tables`` (the schema), ``database`` (transactions), ``errors`` and ``texts``.
"""
