"""What an evaluation is asked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sizes and sources; the same plan measures the same photos of the same library.

    Attributes:
        indexes: which ones; none: all.
        sample: photos that are searched for; 0: searching is not measured, and classes are judged by 1,000.
        k: neighbours that count for recall.
        seed: of every sample.
        labels: `folders`, `leaf-folders`, or a CSV file; None: classes are not judged.
        copies: photos that are copied; 0: copies are not judged.
        weights: further weightings to judge, as `color=1,sift=0.5`.
        suggest: look for better weights.
        expand: judge lists that are ranked anew as well.
        among: photos that labels and copies are judged among; 0: all.
        ef_search: what indexes are searched with; None: each as it usually is.
    """

    indexes: tuple[str, ...] = ()
    sample: int = 1_000
    k: int = 10
    seed: int = 0
    labels: str | None = None
    copies: int = 0
    weights: tuple[str, ...] = ()
    suggest: bool = False
    expand: bool = False
    among: int = 100_000
    ef_search: int | None = None

    @property
    def judges(self) -> bool:
        """Whether vectors and weights are judged, and not only searching."""
        return self.labels is not None or self.copies > 0
