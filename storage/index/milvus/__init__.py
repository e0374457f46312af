"""The index in Milvus, for archives too large for one machine to search. Newer rows still come from PostgreSQL."""
