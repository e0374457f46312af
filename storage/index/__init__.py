"""The vector index: immutable, checksummed FAISS segments over the vectors in PostgreSQL, plus newer rows.

builder     turns committed rows into segments and publishes a manifest of them; ``compaction`` and ``garbage``
index       a reader: the published segments and, from PostgreSQL, the newer rows (``delta``)
part        rows in memory: ``columns`` for conditions, ``vectors`` for similarity (``ann``: the coarse index;
            ``by_lists``: a search of several parts by it; ``mapped``: what is read from disk)
segment     a part in files;  manifest  the list of segments;  store  local copies;  file_storage  folder or bucket
counting    matching images by archive and by folder
condition   conditions of a search on a row;  evaluate, selection  the rows that meet them
near_search groups of near copies in a whole database: ``hash_pairs`` by hash, ``near_groups`` by vector;
            ``near_copies`` groups of the pictures of data sets, by vector alone
milvus      the same answers from a Milvus server
pointers    where it is kept what is published: in PostgreSQL, or, of a second index to compare with, in a file
feature_files  stored image features, in files next to the index
"""
