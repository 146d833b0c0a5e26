"""What is damaged or missing in a picture's file and cannot harm its pixels."""

import struct
import zlib
from collections.abc import Iterator

# The most that a compressed text, profile or the like of a PNG may hold to be read.
MAX_CHUNK_BYTES = 2**24
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_END_OF_JPEG = b"\xff\xd9"
# Changes every pixel that libjpeg would still make of it; none of these bytes begins a marker.
_OTHER_DATA = bytes(range(254, 0, -1))
_ZEROS_OF_PADDING = 8
# Of the chunks that a PNG can do without: transparency, orientation and colours.
_KEPT_CHUNKS = (b"tRNS", b"eXIf", b"iCCP")


def repairs(data: bytes) -> list[bytes]:
    """List files that have the same pixels as a damaged one if those are all there, and decode; or nothing.

    A PNG is repaired by leaving out what is no part of the pixels. A JPEG gets the end that it lacks, once right away
    and once after some other data: where pixels are missing, the two differ.
    """
    if data.startswith(_PNG):
        pared = b"".join((_PNG, *_sound_chunks(data)))
        return [pared] if pared != data else []
    if data.startswith(_JPEG):
        body = _without_padding(data)
        return [body + _END_OF_JPEG, body + _OTHER_DATA + _END_OF_JPEG]
    return []


def _sound_chunks(data: bytes) -> Iterator[bytes]:
    """https://www.w3.org/TR/png-3/#5Chunk-layout: length, type, content, CRC."""
    place = len(_PNG)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        chunk = data[place : place + length + 12]
        is_ancillary = kind[0] & 0x20
        if not is_ancillary or (kind in _KEPT_CHUNKS and _is_sound(chunk)):
            yield chunk
        place += len(chunk)


def _is_sound(chunk: bytes) -> bool:
    if zlib.crc32(chunk[4:-4]).to_bytes(4) != chunk[-4:]:
        return False
    if chunk[4:8] != b"iCCP":
        return True
    profile = chunk[8:-4].partition(b"\0")[2]
    if not profile.startswith(b"\0"):  # the only method of compression
        return False
    decompressor = zlib.decompressobj()
    try:
        decompressor.decompress(profile[1:], MAX_CHUNK_BYTES)
    except zlib.error:
        return False
    return not decompressor.unconsumed_tail


def _without_padding(jpeg: bytes) -> bytes:
    """Take away what disks and cards fill a file up with: more zeros than a picture ends with, or 0xFF."""
    body = jpeg.rstrip(b"\0")
    if len(jpeg) - len(body) < _ZEROS_OF_PADDING:
        body = jpeg
    elif body.endswith(b"\xff"):
        body += b"\0"  # it says that this is no marker
    return body.rstrip(b"\xff")
