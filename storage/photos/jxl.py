"""The size of a JPEG XL, from its first bytes: the plugin for Pillow decodes all of it to say that."""

import struct

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
# ISO/IEC 18181-1, SizeHeader: bits of a number after its two bits of selector, and widths as shares of heights.
_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def jxl_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels as stored, or None of what is no JPEG XL, or has no codestream."""
    if data.startswith(CODESTREAM):
        codestream = data[:16]
    elif data.startswith(CONTAINER):
        codestream = _codestream(data)
    else:
        return None
    if len(codestream) < 12 or not codestream.startswith(CODESTREAM):
        return None
    bits = _Bits(codestream[2:])
    small = bits.take(1)
    height = bits.side(small)
    ratio = bits.take(3)
    if ratio == 0:
        return bits.side(small), height
    above, below = _RATIOS[ratio]
    return height * above // below, height


class _Bits:
    """Reads numbers from bytes, lowest bits first."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value

    def side(self, small: int) -> int:
        return (self.take(5) + 1) * 8 if small else self.take(_BITS[self.take(2)]) + 1


def _codestream(data: bytes) -> bytes:
    """The first bytes of the codestream in a container: of its box, or of the first part."""
    start = 0
    while start + 16 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        if kind in (b"jxlc", b"jxlp"):
            begin = start + header + (4 if kind == b"jxlp" else 0)  # the part's number
            return data[begin : begin + 16]
        if size < header:  # 0: to the end of the file
            break
        start += size
    return b""
