"""The vector index: immutable, checksummed FAISS segments over the vectors in PostgreSQL, plus what is newer.

builder     turns committed rows into segments and publishes a manifest of them; ``compaction`` and ``garbage``
index       a reader: the published segments and, from PostgreSQL, what is newer (``delta``)
part        rows in memory: ``columns`` for conditions, ``vectors`` for the nearest (``ann``: how lists find them)
segment     a part in files;  manifest  the list of segments;  store  local copies;  places  folder or bucket
condition   what a search asks of a row;  evaluate, selection  the rows that meet it
milvus      the same answers from a Milvus server
feature_files  kept image features, in files beside the index
"""
