"""Which executor a run takes: the setting `executor`."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from imgrec.conf.settings import Settings
from imgrec.embedders.base import Embedder, LearnedEmbedder
from imgrec.embedders.machine import Machine
from imgrec.storage.library import Library
from imgrec.tasks.driver import current_driver
from imgrec.tasks.executors.base import Executor
from imgrec.tasks.executors.errors import MissingClusterError, MissingExecutorError
from imgrec.tasks.executors.local import LocalExecutor

# Those that embed on this machine.
HERE = ("local", "debug")
BUILT_IN = (*HERE, "slurm")
# Other packages' executors: a function of settings, library and who hears of images (tasks/executors/dask.py).
ENTRY_POINTS = "imgrec.executors"

if TYPE_CHECKING:
    from imgrec.tasks.executors.slurm import Cluster


def choose_executor(chosen: Settings, library: Library, embedders: Mapping[str, Embedder]) -> Executor:
    """Make the executor that the settings name; `embedders` are those of the library.

    Raises:
        MissingClusterError: submitit is not installed.
        MissingExecutorError: there is none of that name, or what it needs is not installed.
    """
    driver = current_driver()
    if chosen.executor == "slurm":
        cluster = cluster_of(chosen, embedders)
        from imgrec.tasks.executors.slurm import SlurmExecutor

        return SlurmExecutor(library.submissions_dir, cluster, driver.on_images)
    if chosen.executor not in BUILT_IN:
        check_executor(chosen.executor)
        (point,) = entry_points(group=ENTRY_POINTS, name=chosen.executor)
        plugged_in: Executor = point.load()(chosen, library, driver.on_images)
        return plugged_in
    return LocalExecutor(library.chunks_dir, driver.pool, driver.pool.workers, machine_of(chosen), driver.on_images)


def check_executor(name: str) -> None:
    """Look whether there is an executor of that name, without importing it.

    Raises:
        MissingExecutorError: there is none, or several packages bring one.
    """
    if name in BUILT_IN:
        return
    brought = [point.name for point in entry_points(group=ENTRY_POINTS)]
    if brought.count(name) != 1:
        there = ", ".join(dict.fromkeys([*BUILT_IN, *brought]))
        what = "brought by several packages: uninstall all but one" if name in brought else f"there are {there}"
        raise MissingExecutorError(f"executor = {name}: {what}")


def machine_of(chosen: Settings) -> Machine:
    return Machine(chosen.models_root, chosen.device, chosen.model_batch_size)


def cluster_of(chosen: Settings, embedders: Mapping[str, Embedder]) -> "Cluster":
    """Say what the jobs of a library ask for.

    Raises:
        MissingClusterError: submitit is not installed.
    """
    try:
        from imgrec.tasks.executors.slurm import Cluster
        from imgrec.tasks.executors.submitting import Request
    except ModuleNotFoundError as error:
        raise MissingClusterError(
            f"executor = slurm needs {error.name}, not installed here: `pip install 'image-recommender[cluster]'`"
        ) from None
    request = Request(
        cpus_per_task=chosen.slurm_cpus_per_task,
        mem_gb=chosen.slurm_mem_gb,
        timeout_min=chosen.slurm_timeout_min,
        max_running=chosen.slurm_max_running,
        gpus_per_node=chosen.slurm_gpus_per_node,
        partition=chosen.slurm_partition,
        account=chosen.slurm_account,
        qos=chosen.slurm_qos,
        constraint=chosen.slurm_constraint,
        setup=chosen.slurm_setup,
        raw=chosen.slurm_parameters,
    )
    learned = {name for name, embedder in embedders.items() if isinstance(embedder, LearnedEmbedder)}
    return Cluster(request, machine_of(chosen), learned, chosen.slurm_poll_s)
