"""What a process needs to know to embed a query picture as another one does."""

from typing import NamedTuple


class Recipe(NamedTuple):
    """How query pictures are embedded; `settings` is JSON of each modality's, by its name."""

    settings: str
    models_dir: str
    decode_min_side: int
    icc_profiles: str
    max_megapixels: float
    decode_timeout_s: float
