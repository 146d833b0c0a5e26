"""The machine below: atomic writes, locks, worker processes, and what it refuses."""
