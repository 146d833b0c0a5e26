"""Vectors → hits: indexes, queries, recall, previews.

The library call: `Searcher(library).search(["photo.jpg", "id:7"], top_k=5)`.
"""

from search.searcher import Answer, Hit, Searcher

__all__ = ["Answer", "Hit", "Searcher"]
