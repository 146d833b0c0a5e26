"""Index versions: segments, manifests, building, publishing, reading."""
