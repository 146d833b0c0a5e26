"""What all tests share."""

from hypothesis import settings

# The same examples on every machine, and none too slow because the machine is shared.
settings.register_profile("imgrec", derandomize=True, deadline=None, database=None)
settings.load_profile("imgrec")
