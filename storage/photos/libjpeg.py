"""What libjpeg complains of in a JPEG. Pillow drops it; OpenCV lets libjpeg write it to file descriptor 2."""

import subprocess
import sys
from contextlib import suppress

import cv2
import numpy as np

from imgrec.storage.machine.pool import WorkerDiedError
from imgrec.storage.machine.stderr import keeps_stderr, take_stderr


def libjpeg_complaint(data: bytes) -> str:
    """Decode a JPEG at an eighth of its size, and return what libjpeg complains of, or nothing.

    Descriptor 2 is the whole process'. Worker processes have it to themselves; in any other, whose threads may write
    to it, a child is asked, which takes a quarter of a second.

    Raises:
        WorkerDiedError: decoding it ended the child.
    """
    if keeps_stderr():
        take_stderr()
        _decode(data)
        return take_stderr()
    done = subprocess.run([sys.executable, "-P", "-m", __name__], input=data, capture_output=True, check=False)
    if done.returncode:
        raise WorkerDiedError(done.returncode)
    return done.stderr.decode("utf-8", "replace").strip()


def _decode(data: bytes) -> None:
    with suppress(cv2.error):  # a picture too large for OpenCV
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)


if __name__ == "__main__":
    _decode(sys.stdin.buffer.read())
