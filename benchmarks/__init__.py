"""What is measured, and not asserted: `python -m benchmarks.NAME`. And the pictures that tests and the demo share."""
