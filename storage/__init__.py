"""What lies on disk: paths, decoding, the SQLite registry, Parquet shards, and queries over them."""
