"""The commands of `imgrec`. Those that only read import neither Prefect nor torch."""
