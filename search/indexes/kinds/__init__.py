"""Kinds of index segments behind one interface: exact, graph, inverted, hnsw."""
