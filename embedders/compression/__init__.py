"""Vectors made short: encoders that are learnt from a library's own vectors, and the methods that learn them."""
