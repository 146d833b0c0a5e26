"""Pictures whose decoder does what it should not: a real Pillow plugin, which only the processes of a test load.

It takes the place of Pillow's BMP reader, for files that begin with `BM!`: `BM!<when>:<deed>:<number>`. `when` is
`header` or `pixels`. What it is about to do is written to the file $DEEDS first.
"""

import os
from collections import Counter
from pathlib import Path

PLUGIN = """
import ctypes, os, signal, sys, time
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile

DEEDS = {
    "nothing": lambda: None,
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(7),
    "leave": lambda: sys.exit(0),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "no_memory": lambda: bytearray(1 << 62),
    "slow": lambda: time.sleep(1),
    "hang": lambda: time.sleep(1000),
    "hang_with_the_gil": lambda: ctypes.PyDLL(None).sleep(1000),
    "noise": lambda: os.write(2, b"libhostile: what a picture\\n"),
}


def do(when, words):
    with open(os.environ["DEEDS"], "a") as deeds:
        print(when, *words, file=deeds)
    if words[0] == when:
        DEEDS[words[1]]()


class HostileImageFile(ImageFile.ImageFile):
    format = "BMP"

    def _open(self):
        self.words = self.fp.read()[3:].decode().split(":")
        do("header", self.words)
        self._size, self._mode = (8, 8), "RGB"

    def load(self):
        if self._im is None:
            do("pixels", self.words)
            self.im = Image.new("RGB", (8, 8), (int(self.words[2]), 0, 99)).im
        return self.im.pixel_access(self.readonly)


def factory(fp, filename):
    hostile = fp.read(3) == b"BM!"
    fp.seek(0)
    return (HostileImageFile if hostile else BmpImagePlugin.BmpImageFile)(fp, filename)


Image.register_open("BMP", factory, lambda prefix: prefix[:2] == b"BM")
if os.environ.get("BREAK_ALL"):  # as a library that this processor cannot run
    Image.register_open("GIF", lambda fp, filename: os.abort(), lambda prefix: prefix[:3] == b"GIF")
"""


def install(folder: Path) -> dict[str, str]:
    """Return the environment of processes that decode so."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PLUGIN)
    return {"PYTHONPATH": str(folder), "DEEDS": str(folder / "deeds")}


def write(folder: Path, when: str, deed: str, number: int) -> str:
    """Write a picture; its name says what it does. It is not so new that the next scan reads it once more."""
    name = f"{when}-{deed}-{number}.bmp"
    (folder / name).write_bytes(f"BM!{when}:{deed}:{number}".encode())
    os.utime(folder / name, (1_000_000_000, 1_000_000_000))
    return name


def deeds(home: Path) -> Counter[str]:
    """How often each thing was done since the last question, where `install` was given home/plugin."""
    log = home / "plugin" / "deeds"
    lines = log.read_text().splitlines() if log.exists() else []
    log.write_text("")
    return Counter(lines)
