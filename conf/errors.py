"""What can be wrong with settings."""

from imgrec.storage.errors import ImgrecError


class SettingsError(ImgrecError, ValueError):
    """A setting is unknown, or its value is not allowed."""
