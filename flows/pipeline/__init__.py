"""The stages of an ingest, and one run of them."""
