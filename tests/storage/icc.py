"""ICC profiles, made of numbers (https://www.color.org/ICC.1-2001-04.pdf)."""

import struct

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Space = tuple[tuple[tuple[float, ...], ...], float | None]

# Red, green and blue in XYZ under D50, and gamma; None is the curve of sRGB.
SRGB: Space = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)), None
DISPLAY_P3: Space = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), None
ADOBE_RGB: Space = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 2.2
PROPHOTO: Space = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)), 1.8
_D50 = (0.9642, 1.0, 0.82491)


def rgb_profile(colorants: tuple[tuple[float, ...], ...], gamma: float | None) -> bytes:
    tags = {f"{name}XYZ".encode(): _xyz(values) for name, values in zip("rgb", colorants, strict=True)}
    tags |= {f"{name}TRC".encode(): _curve(gamma) for name in "rgb"}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def ink_profile(inks: Floats) -> bytes:
    """Four inks, by the linear sRGB (4, 3) that white paper has under each; together they multiply."""
    corners = np.array([[c, m, y, k] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)])
    colours = np.prod(np.where(corners[..., None] == 1, inks, 1.0), axis=1)
    lab = _lab(colours @ np.array(SRGB[0]))
    table = np.clip(np.round([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128]), 0, 255).astype(np.uint8).T
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65_536 * np.eye(3, dtype=int).reshape(-1)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + table.tobytes() + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def _lab(xyz: Floats) -> Floats:
    ratio = np.maximum(xyz / _D50, 0)
    f = np.where(ratio > 216 / 24_389, np.cbrt(ratio), (24_389 / 27 * ratio + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def _curve(gamma: float | None) -> bytes:
    if gamma is not None:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    levels = np.linspace(0, 1, 1_024)
    values = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I", 1_024) + np.round(values * 65_535).astype(">u2").tobytes()


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65_536) for value in values))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"made by numbers\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"nobody's\0",
        b"wtpt": _xyz(_D50),
        **tags,
    }
    table, content = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(content), bytes(4), 0x02_10_00_00, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + content
