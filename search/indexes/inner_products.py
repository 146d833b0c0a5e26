"""Inner products of one vector with a few rows, by the thread that asks."""

import faiss
import numpy as np

from imgrec.search.indexes.vectors import Vectors


def inner_products(rows: Vectors, vector: Vectors) -> Vectors:
    """The products of a vector (dim,) with rows (N, dim), both contiguous float32 → (N,).

    NumPy's BLAS would share so little work among its threads, and where something else computes meanwhile, another
    search even, they wait for each other: 2.7 ms instead of 0.08 for 256 rows of 2,560.
    """
    found = np.empty(len(rows), np.float32)
    faiss.fvec_inner_products_ny(
        faiss.swig_ptr(found), faiss.swig_ptr(vector), faiss.swig_ptr(rows), rows.shape[1], len(rows)
    )
    return found
