"""Which executor a run takes: the setting `executor`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imgrec.conf.settings import Settings
from imgrec.embedders.base import Embedder, LearnedEmbedder
from imgrec.embedders.machine import Machine
from imgrec.storage.library import Library
from imgrec.tasks.driver import current_driver
from imgrec.tasks.executors.base import Executor
from imgrec.tasks.executors.errors import MissingClusterError
from imgrec.tasks.executors.local import LocalExecutor

if TYPE_CHECKING:
    from imgrec.tasks.executors.slurm import Cluster


def choose_executor(chosen: Settings, library: Library, embedders: Mapping[str, Embedder]) -> Executor:
    """Make the executor that the settings name; `embedders` are those of the library.

    Raises:
        MissingClusterError: submitit is not installed.
    """
    driver = current_driver()
    if chosen.executor == "slurm":
        cluster = cluster_of(chosen, embedders)
        from imgrec.tasks.executors.slurm import SlurmExecutor

        return SlurmExecutor(library.submissions_dir, cluster, driver.on_images)
    return LocalExecutor(library.chunks_dir, driver.pool, driver.pool.workers, machine_of(chosen), driver.on_images)


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
