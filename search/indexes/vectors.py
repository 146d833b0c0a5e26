"""The arrays that indexes are made of."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]  # of images
Offsets: TypeAlias = NDArray[np.int64]  # of rows in a segment
Vectors: TypeAlias = NDArray[np.float32]  # (N, dim), unit rows unless said otherwise
Mask: TypeAlias = NDArray[np.bool_]
