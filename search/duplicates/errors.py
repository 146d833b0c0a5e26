"""What can go wrong with copies."""

from imgrec.storage.errors import ImgrecError


class KeepRuleError(ImgrecError, ValueError):
    """There is no such rule for what to keep."""


class GroupNotFoundError(ImgrecError, LookupError):
    """There is no group of this number, now."""


class ExactCopiesError(ImgrecError, ValueError):
    """Files of the same bytes cannot be different pictures."""
