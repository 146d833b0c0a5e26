"""A real server and worker, which `imgrec up` brings up, and what they run. Slow: a marker of its own."""
