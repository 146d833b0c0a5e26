"""What an evaluation cannot be made of."""

from imgrec.storage.errors import ImgrecError


class EvaluationError(ImgrecError, ValueError):
    """The library, its photos or what was asked for leave nothing to measure."""


class LabelsError(EvaluationError):
    """Labels name no photo, or only one class."""


class WeightsError(EvaluationError):
    """Weights name no modality of the library, or weigh nothing."""
