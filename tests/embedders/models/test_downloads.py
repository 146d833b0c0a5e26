"""Downloads from a real server that drops connections, lies about lengths, and serves wrong bytes."""

import hashlib
import random
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.models import downloads
from imgrec.embedders.models.downloads import Remote, download
from tests.embedders.server import Site, serving

DATA = random.Random(0).randbytes(3_000_000)
PATH = "/weights.bin"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with serving(Site({PATH: DATA})) as site:
        yield site


def remote(site: Site, *, size: int | None = None, data: bytes = DATA) -> Remote:
    return Remote(f"{site.address}{PATH}", hashlib.sha256(data).hexdigest(), size)


def test_a_file_comes_whole_and_says_how_far_it_is(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(remote(site), tmp_path / "weights", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "weights").read_bytes() == DATA
    assert (seen[0], seen[-1]) == ((0, len(DATA)), (len(DATA), len(DATA)))
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_git_names_a_file_by_another_digest(site: Site, tmp_path: Path) -> None:
    digest = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    download(Remote(f"{site.address}{PATH}", digest), tmp_path / "weights")
    with pytest.raises(ModelFileError, match="is not the file it should be"):
        download(Remote(f"{site.address}{PATH}", digest[::-1]), tmp_path / "other")


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_broken_connection_is_gone_on_with(site: Site, tmp_path: Path, size: int | None) -> None:
    site.drop_after = 1_000_000
    download(remote(site, size=size), tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == DATA
    assert site.served == ["", "bytes=1000000-", "bytes=2000000-"]


def test_a_later_call_goes_on_with_what_an_earlier_one_has(site: Site, tmp_path: Path) -> None:
    site.drop_after = 1_000_000
    (tmp_path / "weights.part").write_bytes(DATA[:2_500_000])
    download(remote(site), tmp_path / "weights")
    assert site.served == ["bytes=2500000-"]
    assert (tmp_path / "weights").read_bytes() == DATA


def test_a_server_without_ranges_begins_anew(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    (tmp_path / "weights.part").write_bytes(DATA[:2_500_000])
    download(remote(site), tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == DATA


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_part_that_is_whole_needs_no_more(site: Site, tmp_path: Path, size: int | None) -> None:
    (tmp_path / "weights.part").write_bytes(DATA)
    download(remote(site, size=size), tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == DATA


def test_a_server_that_is_busy_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.errors = downloads.ATTEMPTS - 1
    download(remote(site), tmp_path / "weights")
    assert len(site.served) == downloads.ATTEMPTS


def test_one_that_stays_so_is_given_up(site: Site, tmp_path: Path) -> None:
    site.errors = 100
    with pytest.raises(ModelFileError, match=r"breaks off at 0 bytes \(503 .*\): run the command again"):
        download(remote(site), tmp_path / "weights")
    assert len(site.served) == downloads.ATTEMPTS


def test_a_file_that_is_not_there_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    site.files = {}
    with pytest.raises(ModelFileError, match=r"weights\.bin is not to be had \(404 Not Found\)"):
        download(remote(site), tmp_path / "weights")
    assert len(site.served) == 1


def test_a_server_that_is_not_there_is_told(site: Site, tmp_path: Path) -> None:
    gone = Remote("http://127.0.0.1:9/weights", "0" * 64)
    with pytest.raises(ModelFileError, match=r"breaks off at 0 bytes \(.*refused.*\)"):
        download(gone, tmp_path / "weights")


def test_a_length_that_is_too_long_is_a_broken_connection(site: Site, tmp_path: Path) -> None:
    site.claimed = 1_000
    # There is nothing after the last byte (416), so this is all of it; the digest says whether it is the file.
    download(remote(site), tmp_path / "weights")
    assert site.served == ["", f"bytes={len(DATA)}-"]
    with pytest.raises(ModelFileError, match="is not the file it should be"):
        download(remote(site, data=b"other"), tmp_path / "other")


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_length_that_is_too_short_is_not_the_file(site: Site, tmp_path: Path, size: int | None) -> None:
    site.claimed = -1_000
    if size is None:
        with pytest.raises(ModelFileError, match="is not the file it should be"):
            download(remote(site), tmp_path / "weights")
        assert list(tmp_path.iterdir()) == []
    else:  # what is missing is asked for
        with pytest.raises(ModelFileError, match="breaks off at 2,999,"):
            download(remote(site, size=size), tmp_path / "weights")


@pytest.mark.parametrize("size", [None, len(DATA)])
@pytest.mark.parametrize("more", [-1, 0, 1_000_000])
def test_wrong_bytes_are_never_kept(site: Site, tmp_path: Path, more: int, size: int | None) -> None:
    site.files[PATH] = b"\0" * (len(DATA) + more)
    with pytest.raises(ModelFileError, match=r"is not the file it should be|breaks off at 2,999,999"):
        download(remote(site, size=size), tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
    site.files[PATH] = DATA
    (tmp_path / "weights.part").unlink(missing_ok=True)
    download(remote(site, size=size), tmp_path / "weights")


def test_a_part_of_another_file_costs_one_more_call(site: Site, tmp_path: Path) -> None:
    (tmp_path / "weights.part").write_bytes(b"\0" * 1_000)
    with pytest.raises(ModelFileError, match="run the command again"):
        download(remote(site), tmp_path / "weights")
    download(remote(site), tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == DATA


TOKEN = {"authorization": "Bearer hf_secret"}


def test_a_token_goes_to_no_other_host(site: Site, tmp_path: Path) -> None:
    with serving(Site({PATH: DATA})) as elsewhere:
        site.moved = elsewhere.address
        digest = hashlib.sha256(DATA).hexdigest()
        download(Remote(f"{site.address}{PATH}", digest, headers=TOKEN), tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == DATA
    assert (site.tokens, elsewhere.tokens) == (["Bearer hf_secret"], [None])


def test_a_token_goes_with_a_file_that_moved_on_its_host(site: Site, tmp_path: Path) -> None:
    with serving(Site({PATH: DATA})) as door:  # sends on to `site`, and that to another path
        site.files = {f"/new{PATH}": DATA}
        site.moved = f"{site.address}/new"
        with pytest.raises(ModelFileError, match=r"breaks off|not to be had"):  # it sends on for ever
            download(Remote(f"{site.address}{PATH}", None, headers=TOKEN), tmp_path / "weights")
        assert set(site.tokens) == {"Bearer hf_secret"}
        assert len(site.tokens) > 1
        site.moved, site.tokens = "", []
        door.moved = f"{site.address}/new"
        download(Remote(f"{door.address}{PATH}", None, headers=TOKEN), tmp_path / "weights")
    assert (door.tokens, site.tokens) == (["Bearer hf_secret"], [None])


@pytest.mark.parametrize("says_no_length", [True, False])
def test_what_no_model_has_is_not_downloaded(
    site: Site, tmp_path: Path, says_no_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.says_no_length = says_no_length
    monkeypatch.setattr(downloads, "MOST_BYTES", 2_000_000)
    with pytest.raises(ModelFileError, match=r"weights\.bin has more than 2,000,000 bytes, which no model has"):
        download(Remote(f"{site.address}{PATH}", None), tmp_path / "weights")
    left = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert left <= (2_000_000 if says_no_length else 0)
    assert len(site.served) == 1


def test_a_digest_of_git_is_taken_in_little_memory(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "weights.part"
    with part.open("wb") as file:
        file.truncate(200 * 2**20)
    remote = Remote(f"{site.address}{PATH}", "0" * 40, part.stat().st_size)
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="is not the file it should be"):
        download(remote, tmp_path / "weights")
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()
