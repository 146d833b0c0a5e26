"""Photo files: walk, probe, decode."""
