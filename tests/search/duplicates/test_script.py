"""The script that clears copies away, run by a real shell over real files of any name."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imgrec.search.duplicates.groups import EXACT, Copy, Group
from imgrec.search.duplicates.script import MOVE, REMOVE, TRASH, write_script

NAMES = (
    b"plain.png", b"two words.png", b"it's.png", b'"quoted".png', b"$(touch hacked) `touch hacked`.png",
    b"new\nline.png", b"-rf.png", b"caf\xe9.png", b"back\\slash.png", b"tab\t*?[a].png", b" lead.png",
    b"trail .png", b"!bang;&|.png",
    b"in/a/folder\n/'x'.png", "ünï.png".encode(), b"line end\n",
)  # fmt: skip


def copy_at(file: bytes, root: Path, image_id: int, instead: int | None) -> Copy:
    content = hashlib.sha256(Path(os.fsdecode(file)).read_bytes()).digest()
    name = os.fsdecode(file)
    below = name.removeprefix(f"{root}/")
    return Copy(image_id, below, name, below, 1.0, instead is None, "", instead, 1, 1, 1, "PNG", 0, content)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    folder.mkdir()
    return folder


def write_copies(photos: Path) -> Group:
    """A kept photo, and a copy of it under each name."""
    root = os.fsencode(photos)
    files = [root + b"/kept it.png", *(root + b"/" + name for name in NAMES)]
    for file in files:
        os.makedirs(os.path.dirname(file), exist_ok=True)  # noqa: PTH103, PTH120 - bytes
        Path(os.fsdecode(file)).write_bytes(b"picture")
    copies = [copy_at(file, photos, number, 1 if number > 1 else None) for number, file in enumerate(files, 1)]
    return Group(1, EXACT, tuple(copies))


def run(script: Path, *arguments: str, path: str | None = None) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    shell = shutil.which("dash") or "sh"
    return subprocess.run(
        [shell, str(script), *arguments], cwd=script.parent, env=environment, capture_output=True, check=False
    )


def there(photos: Path) -> list[str]:
    return sorted(os.path.relpath(path, photos) for path in photos.rglob("*") if path.is_file())


def test_moves_files_of_any_name(photos: Path, tmp_path: Path) -> None:
    script, target = tmp_path / "tidy.sh", tmp_path / "it's there"
    group = write_copies(photos)
    assert write_script(script, [group], MOVE, target) == len(NAMES)

    dry = run(script, "-n")
    assert (dry.returncode, dry.stderr, len(there(photos))) == (0, b"", len(NAMES) + 1)
    assert dry.stdout.count(b"would go: ") == len(NAMES) + 1  # and the sum

    done = run(script)
    assert (done.returncode, done.stderr) == (0, b"")
    assert there(photos) == ["kept it.png"]
    assert there(target) == sorted(map(os.fsdecode, NAMES))
    assert not list(tmp_path.rglob("hacked"))


def test_leaves_alone_what_is_not_as_it_was(photos: Path, tmp_path: Path) -> None:
    script, group = tmp_path / "tidy.sh", write_copies(photos)
    write_script(script, [group], REMOVE)
    (photos / "plain.png").write_bytes(b"changed")
    (photos / "it's.png").unlink()
    (photos / "-rf.png").unlink()
    (photos / "-rf.png").symlink_to(photos / "kept it.png")
    (photos / "two words.png").unlink()
    os.link(photos / "kept it.png", photos / "two words.png")  # the kept file itself, under another name

    done = run(script)
    assert done.returncode == 1
    assert there(photos) == ["-rf.png", "kept it.png", "plain.png", "two words.png"]
    assert done.stdout.endswith(b"gone: %d, left alone: 4\n" % (len(NAMES) - 4))


def test_nothing_goes_where_the_kept_one_is_gone(photos: Path, tmp_path: Path) -> None:
    script, group = tmp_path / "tidy.sh", write_copies(photos)
    write_script(script, [group], REMOVE)
    (photos / "kept it.png").write_bytes(b"changed")

    done = run(script)
    assert done.returncode == 1
    assert len(there(photos)) == len(NAMES) + 1
    assert b"so its copies stay" in done.stderr


def test_moves_nothing_over_a_file(photos: Path, tmp_path: Path) -> None:
    script, target, group = tmp_path / "tidy.sh", tmp_path / "target", write_copies(photos)
    target.mkdir()
    (target / "plain.png").write_bytes(b"mine")
    write_script(script, [group], MOVE, target)

    done = run(script)
    assert done.returncode == 1
    assert (target / "plain.png").read_bytes() == b"mine"
    assert there(photos) == ["kept it.png", "plain.png"]


def test_trashes_by_what_is_installed(photos: Path, tmp_path: Path) -> None:
    script, group = tmp_path / "tidy.sh", write_copies(photos)
    write_script(script, [group], TRASH)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sha256sum",):
        (tools / name).symlink_to(shutil.which(name) or name)

    without = run(script, path=str(tools))
    assert (without.returncode, len(there(photos))) == (1, len(NAMES) + 1)
    assert b"neither gio nor trash-put" in without.stderr

    (tools / "trash-put").write_text('#!/bin/sh\n[ "$1" = -- ] && exec /bin/rm -- "$2"\n')
    (tools / "trash-put").chmod(0o755)
    assert (run(script, path=str(tools)).returncode, there(photos)) == (0, ["kept it.png"])
