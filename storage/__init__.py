"""Everything that outlives a process. Knows nothing of models, the queue or the web.

    objects   the archives: buckets and folders, listed and read, never written
    ledger    jobs: their listings, shards, leases, failures and reports; the workers
    results   facts about images: archives and keys, records, tags, vectors, generations, corrections, erasures
    datasets  data sets for training: versions, pictures and labels, and the tasks that make them
    index     the vector index over the results: FAISS segments or Milvus, plus the newest rows from PostgreSQL
    search    queries: their language, conditions, ranking, facets, pages of hits

``search`` uses ``index``, and both use ``results``. ``datasets`` uses ``results`` and ``ledger``. ``ledger`` and
``objects`` use none of these. Below all of them are ``tables`` (the schema), ``standby`` (which database searches
read), ``liveness`` (whether one answers), ``database`` (transactions), ``words`` (those of a text), ``background``
(threads), ``batches``, ``errors`` and ``texts``.
"""
