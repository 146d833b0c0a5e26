"""A chunk in a process of its own, as a job of a cluster has it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from imgrec.embedders.errors import ChunkRefusedError
from imgrec.embedders.work.__main__ import main
from imgrec.embedders.work.keeping import Keeper, parts_folder
from imgrec.embedders.work.outcome import outcome_path, read_outcome
from imgrec.embedders.work.worker import is_embedded
from imgrec.storage.photos.pending import Pending
from imgrec.storage.shards import read_shard
from tests.embedders.work.test_worker import scan, write_chunk, write_photos

# Nothing of these may be needed on a node, nor anybody be called from there.
NEVER = ("prefect", "mlflow", "sqlite3", "imgrec.conf.settings", "imgrec.storage.registry", "imgrec.search")
# What a job does, and then what it and one of its workers have imported.
JOB = """
import json, sys
from imgrec.embedders.work.__main__ import WorkerPool, main
{import_job}

def imported():
    return sorted(sys.modules)

if __name__ == "__main__":
    code = main(sys.argv[1:])
    with WorkerPool(1, preload=["imgrec.embedders.work.worker"]) as pool:
        print(json.dumps([code, imported(), pool.submit(eval, "sorted(__import__('sys').modules)").result()]))
"""


def test_the_module_embeds_a_chunk_and_leaves_an_outcome(tmp_path: Path) -> None:
    path = write_chunk(tmp_path, write_photos(tmp_path / "photos", 3))
    command = [sys.executable, "-m", "imgrec.embedders.work", str(path), "--workers=1", "--device=cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    outcome = read_outcome(path)
    assert (outcome.embedded, outcome.failed, outcome.changed) == (3, 0, ())
    assert is_embedded(path)
    assert [len(read_shard(shard).content_hashes) for shard in outcome.shards] == [3]


def write_slow_photos(folder: Path, count: int) -> list[Pending]:
    """Write pictures that keep one worker busy for far longer than a test takes to look (some 20 s for 4,000)."""
    folder.mkdir()
    Image.new("RGB", (1_000, 1_000), "teal").save(folder / "0.png")
    picture = (folder / "0.png").read_bytes()
    for number in range(1, count):
        (folder / f"{number}.png").write_bytes(picture + str(number).encode())
    return scan(folder)


def test_asked_to_end_it_keeps_what_is_done(tmp_path: Path) -> None:
    path = write_chunk(tmp_path, write_slow_photos(tmp_path / "photos", 4_000))
    command = [sys.executable, "-m", "imgrec.embedders.work", str(path), "--workers=1", "--device=cpu"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as job:
        end = time.monotonic() + 60
        while not (before := len(Keeper(path).done)):
            assert time.monotonic() < end, "no part is kept"
            time.sleep(0.05)
        time.sleep(0.3)  # more is done, and not kept yet
        job.send_signal(signal.SIGTERM)
        assert job.wait(20) == 143
    assert not outcome_path(path).exists()
    assert before < len(Keeper(path).done) < 4_000
    assert len(list(parts_folder(path).glob("*.parquet"))) > 1


def test_what_no_other_try_would_change_is_an_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_chunk(tmp_path, write_photos(tmp_path / "photos", 1), fingerprints={"color": "of another version"})
    assert main([str(path), "--workers=1"]) == 1
    with pytest.raises(ChunkRefusedError, match=r"^color makes vectors of fingerprint .* install the same version"):
        read_outcome(path)
    assert "install the same version" in capsys.readouterr().err


def test_what_may_be_over_elsewhere_leaves_none(tmp_path: Path) -> None:
    path = write_chunk(tmp_path, write_photos(tmp_path / "photos", 1))
    (tmp_path / "shards").write_text("a file where the folder of shards would be")
    with pytest.raises(OSError, match="shards"):
        main([str(path), "--workers=1"])
    assert not outcome_path(path).exists()


@pytest.mark.parametrize("import_job", ["", "import imgrec.tasks.executors.submitting"], ids=["module", "job"])
def test_a_job_imports_no_orchestrator_and_no_database(tmp_path: Path, import_job: str) -> None:
    script = tmp_path / "job.py"
    script.write_text(JOB.format(import_job=import_job))
    path = write_chunk(tmp_path, write_photos(tmp_path / "photos", 2))
    done = subprocess.run([sys.executable, script, path], capture_output=True, text=True, check=True)
    code, in_job, in_worker = json.loads(done.stdout)
    assert code == 0
    assert "imgrec.embedders.work.worker" in in_worker
    found = [name for name in in_job + in_worker if name.startswith(NEVER)]
    assert found == []
