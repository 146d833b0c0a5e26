"""What a cluster adds to the work, on a SLURM cluster of this machine (root on Debian 12; tests/cluster/up.sh).

overhead_s       seconds a chunk of an ingest's embedding stage, beyond an sbatch array of as many jobs that import and
                 start what a job of ours does, and compute nothing; its time is sacct's, to a second. 40 chunks of 8
                 photos, 4 nodes of 2 cores; the better of two rounds of each.
polls_per_min    calls of squeue, sacct and scontrol in the second minute in which 1,000 jobs wait, held, in the queue.
driver_mb        resident size of the driver then; 8,000 photos of 8×8 pixels, 8 a chunk.
mirror_per_s     vectors of 768 dimensions a second from shards that are there into the registry, on one machine's disk;
                 the best of three.

With --quick 12 chunks, one round, and 200 jobs in the first half minute.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from benchmarks.cluster_mirror import mirror_per_s
from benchmarks.harness import (
    BENCH,
    Metric,
    clean_environment,
    imgrec,
    report,
    scratch,
    wants_quick,
    write_tiny_photos,
)

SCRIPTS = Path(__file__).parent.parent / "tests" / "cluster"
IMAGES_A_JOB = 8
ASKED = ("squeue", "sacct", "scontrol")
# What a job of ours imports and starts before it has read its chunk.
SAME_IMPORTS = """
import submitit
from imgrec.embedders.work.__main__ import WorkerPool
with WorkerPool(1, preload=["imgrec.embedders.work.worker"]) as pool:
    pool.submit(int).result()
"""


def overhead_s(home: Path, variables: dict[str, str], jobs: int, rounds: int) -> tuple[float, float]:
    """Seconds a chunk of our embedding stage, and of a bare array."""
    write_tiny_photos(home / "photos", jobs * IMAGES_A_JOB)
    (home / "imports.py").write_text(SAME_IMPORTS)
    task = f"srun {sys.executable} {home / 'imports.py'}"
    array = ["sbatch", "--parsable", "--wait", f"--array=0-{jobs - 1}", "--mem=500M", "-o", "/dev/null", "--wrap", task]
    ours, bare = [], []
    for number in range(rounds):
        bare.append(_array_s(array, variables) / jobs)
        library = ["-l", str(home / f"library-{number}")]
        imgrec("scan", home / "photos", *library, variables=variables)
        options = ["--executor", "slurm", "--chunk-size", str(IMAGES_A_JOB), "--json"]
        embedded = json.loads(imgrec("embed", *library, *options, variables=variables))
        ours.append(embedded["seconds"]["embed"] / jobs)
    return min(ours), min(bare)


def _array_s(array: list[str], variables: dict[str, str]) -> float:
    """Seconds from an array's submission to its last job's end, as accounting has them: `--wait` sleeps up to 10 s."""
    environment = {**os.environ, **variables}
    job = subprocess.run(array, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    time.sleep(3)  # accounting may be late
    asked = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "Submit,End"]
    told = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
    times = [[datetime.fromisoformat(word) for word in line.split("|")] for line in told.splitlines()]
    return (max(end for _, end in times) - min(submit for submit, _ in times)).total_seconds()


def polls_per_min(
    home: Path, variables: dict[str, str], jobs: int, after_s: float, for_s: float
) -> tuple[float, float]:
    """How often SLURM is asked while jobs wait, and the driver's resident megabytes."""
    write_tiny_photos(home / "photos", jobs * IMAGES_A_JOB)
    log, shims = home / "asked", home / "bin"
    shims.mkdir()
    for name in ASKED:
        (shims / name).write_text(f'#!/bin/sh\necho {name} >> {log}\nexec {shutil.which(name)} "$@"\n')
        (shims / name).chmod(0o755)
    held = {**clean_environment(), **variables, "PATH": f"{shims}:{os.environ['PATH']}"}
    held["IMGREC_SLURM_PARAMETERS"] = '{"hold": true}'
    command = [str(Path(sys.executable).parent / "imgrec"), "ingest", str(home / "photos"), f"-l{home / 'library'}"]
    options = ["--executor", "slurm", "--chunk-size", str(IMAGES_A_JOB)]
    driver = subprocess.Popen([*command, *options], env=held, stderr=subprocess.DEVNULL)
    try:
        while not log.exists() or "squeue" not in log.read_text():
            time.sleep(0.5)
        time.sleep(after_s)
        before = len(log.read_text().splitlines())
        time.sleep(for_s)
        asked = len(log.read_text().splitlines()) - before
        status = Path(f"/proc/{driver.pid}/status").read_text().splitlines()
        resident_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    finally:
        driver.send_signal(signal.SIGINT)
        driver.wait(60)
    return asked * 60 / for_s, resident_kb / 1e3


def main() -> None:
    quick = wants_quick(__doc__)
    BENCH.mkdir(exist_ok=True)
    home = BENCH / "slurm"
    sandbox = {**os.environ, "SLURM_SANDBOX": str(home)}
    variables = {
        "SLURM_CONF": str(home / "etc" / "slurm.conf"), "IMGREC_ORCHESTRATE": "none", "IMGREC_MODALITIES": "color",
        "IMGREC_SLURM_CPUS_PER_TASK": "1", "IMGREC_SLURM_MEM_GB": "0.5",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
    }  # fmt: skip
    mirrored = max(mirror_per_s(10_240 if quick else 51_200) for _ in range(1 if quick else 3))
    subprocess.run(["bash", SCRIPTS / "up.sh"], env=sandbox, check=True)
    try:
        with scratch("cluster-overhead") as folder:
            ours, bare = overhead_s(folder, variables, 12 if quick else 40, 1 if quick else 2)
        with scratch("cluster-polls") as folder:
            size = (200, 0, 30) if quick else (1_000, 60, 60)
            polls, resident = polls_per_min(folder, variables, *size)
    finally:
        subprocess.run(["bash", SCRIPTS / "down.sh", "--purge"], env=sandbox, check=True)
    metrics = {
        "overhead_s": Metric(ours - bare, 0.3), "polls_per_min": Metric(polls, 12), "driver_mb": Metric(resident),
        "mirror_per_s": Metric(mirrored[0], 40_000, at_least=True),
    }  # fmt: skip
    report("cluster", metrics, {
        "seconds a chunk, ours": f"{ours:.2f}", "seconds a job, bare": f"{bare:.2f}",
        "vectors mirrored a second of CPU time": f"{mirrored[1]:,.0f}",
    })  # fmt: skip


if __name__ == "__main__":
    main()
