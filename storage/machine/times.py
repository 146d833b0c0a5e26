"""Times of files, of which a file system may say any."""

# The last whole second that SQLite's INTEGER and DuckDB's TIMESTAMP hold in ns, which is of 2262-04-11.
_LATEST_NS = 9_223_372_036 * 10**9


def storable(time_ns: int) -> int:
    """The nearest time that SQLite can hold."""
    return max(-_LATEST_NS, min(time_ns, _LATEST_NS))
