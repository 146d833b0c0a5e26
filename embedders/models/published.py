"""Which names of models somebody publishes, without knowing how such a model is fetched or stored."""

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.extras import OPENCLIP, missing_of
from imgrec.embedders.models.dreamsim_types import PREFIX, TYPES
from imgrec.embedders.models.openclip_config import known_config


def is_published(name: str) -> bool:
    """Whether `imgrec models fetch NAME` knows where the model is; open_clip, which takes seconds, is only asked where
    it might."""
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX) in TYPES
    if "." not in name:
        return False
    if missing_of(OPENCLIP):  # a fetch will say so
        return True
    try:
        return known_config(name) is not None
    except ModelFileError:  # these weights belong to an architecture of another name
        return False
