"""What a worker does: one chunk in, shards out."""
