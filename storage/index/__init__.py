"""The vector index: immutable, checksummed FAISS segments over the vectors in Postgres, plus what is newer."""
