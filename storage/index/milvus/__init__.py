"""The index in Milvus, for archives that one machine cannot search; what is newer is read from Postgres as ever."""
