"""What can become of jobs."""

from imgrec.storage.errors import ImgrecError


class SubmissionError(ImgrecError, RuntimeError):
    """SLURM does not take, or never will run, a job as it is asked for."""


class JobFailedError(ImgrecError, RuntimeError):
    """A job ended without an outcome. `temporary` where another try may have one."""

    def __init__(self, message: str, temporary: bool) -> None:
        super().__init__(message)
        self.temporary = temporary


class MissingClusterError(ImgrecError, ImportError):
    """What speaks to SLURM is in the extra [cluster], which is not installed."""


class MissingExecutorError(ImgrecError, LookupError):
    """There is no executor of that name, or what it needs is not installed."""
