"""Decode a picture in a process of its own, for whoever must not end with it and has no worker processes."""

import json
import signal
import subprocess
import sys
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.errors import ImageError
from imgrec.storage.machine.pool import WorkerDiedError
from imgrec.storage.machine.stderr import keep_stderr
from imgrec.storage.photos.decoding import decode, decoder_failure
from imgrec.storage.photos.profiles import IGNORED

# What photos and the web are made of: their decoders have seen everything, and a process takes a quarter of a second.
_WELL_TRIED = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")
_REFUSED = 3


def decode_safely(
    data: bytes, min_side: int, max_megapixels: float, decode_timeout_s: float, icc_profiles: str = IGNORED
) -> NDArray[np.uint8]:
    """Decode as `decoding.decode` does; JPEG, PNG, GIF and WebP in this process, all else in another.

    Raises:
        ImageError: as `decode` does; also `crashed_decoder`, `decoder_hangs` and `out_of_memory`.
    """
    if data.startswith(_WELL_TRIED) or (data[:4], data[8:12]) == (b"RIFF", b"WEBP") or not data:
        return decode(data, min_side, max_megapixels, icc_profiles)
    command = [sys.executable, "-P", "-m", __name__, str(min_side), str(max_megapixels), icc_profiles]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=decode_timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise decoder_failure(WorkerDiedError(-signal.SIGALRM), decode_timeout_s) from None
    if done.returncode == _REFUSED:
        raise ImageError(*json.loads(done.stdout))
    if done.returncode:
        raise decoder_failure(WorkerDiedError(done.returncode), decode_timeout_s)
    pixels: NDArray[np.uint8] = np.load(BytesIO(done.stdout))
    return pixels


def main() -> None:
    """Read a picture from standard input; write its pixels, or status and reason, to standard output."""
    keep_stderr()
    try:
        pixels = decode(sys.stdin.buffer.read(), int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
    except (ImageError, MemoryError) as error:
        refusal = error if isinstance(error, ImageError) else decoder_failure(error, 0)
        sys.stdout.write(json.dumps([refusal.status, str(refusal)]))
        sys.exit(_REFUSED)
    array = BytesIO()  # into a pipe, NumPy does not save: it asks where in the file it is
    np.save(array, pixels)
    sys.stdout.buffer.write(array.getbuffer())


if __name__ == "__main__":
    main()
