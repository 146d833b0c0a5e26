"""Warnings of libraries that are no news to anybody."""

import re
import warnings


def ignore_warnings(module: str, category: type[Warning] = Warning) -> None:
    """Ignore what modules warn of whose names begin so (a regular expression).

    By a filter that stays. `warnings.catch_warnings` changes the filters of all threads, and then puts back what may be
    another thread's.
    """
    if ("ignore", None, category, re.compile(module), 0) not in warnings.filters:
        warnings.filterwarnings("ignore", category=category, module=module)
