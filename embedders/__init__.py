"""Pixels → vectors: one file per modality, one base, one catalogue, and the worker that takes one chunk."""
