"""Vectors → hits: indexes, queries, recall, previews.

The library call: `Searcher(library).search(["photo.jpg", "id:7"], top_k=5)`, or for words and mixtures
`Searcher(library, for_text=True).search_terms([Term("a red car"), Term("id:7", -0.5, is_text=False)])`.
"""

from imgrec.search.answers import Answer, Hit
from imgrec.search.filters import Filter
from imgrec.search.searcher import Searcher
from imgrec.search.terms import Term

__all__ = ["Answer", "Filter", "Hit", "Searcher", "Term"]
