"""Exact and near copies: which photos are the same picture, and which of them to keep."""
