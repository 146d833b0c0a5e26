"""Every parameter, its default, and what is allowed.

Sources, the later ones winning: defaults, the library's imgrec.toml, the working directory's imgrec.toml,
`IMGREC_*` variables, flags.
"""

import os
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from imgrec.conf.errors import SettingsError
from imgrec.conf.photo_roots import RootFolders, parse_roots
from imgrec.storage.library import DEFAULT_MODELS_ROOT
from imgrec.storage.machine.bounded import read_small
from imgrec.storage.photos.exclusion import parse_patterns

SETTINGS_FILE = "imgrec.toml"
DEFAULT_LIBRARY = Path("~/.local/share/imgrec/library")
# Former names, which flags, files and calls may still use.
RENAMED = {"batch_size": "chunk_size", "sift_model": "sift_codebook"}


def _split_names(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _split_bins(value: Any) -> Any:
    """`8`, `8x8x8`, `8,8,8` and lists all name three numbers of bins."""
    if isinstance(value, int):
        return (value,) * 3
    if isinstance(value, str):
        parts = value.strip("[]() ").replace("x", ",").split(",")
        return tuple(parts * 3) if len(parts) == 1 else tuple(part.strip() for part in parts)
    return value


def _split_lines(value: Any) -> Any:
    """A pattern may hold commas; those that are empty are none."""
    lines = value.splitlines() if isinstance(value, str) else value
    return [line for line in lines if line != ""] if isinstance(lines, list | tuple) else lines


def _check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    parse_patterns(patterns)
    return patterns


def expand_folder(value: Any) -> Any:
    """Return the absolute path of a folder; what is no path is refused elsewhere.

    Raises:
        ValueError: it has no path that all libraries below us can take.
    """
    if not isinstance(value, str | Path):
        return value
    try:
        folder = Path(value).expanduser().resolve()
        str(folder).encode()
        return folder
    except UnicodeEncodeError:
        raise ValueError(
            "the name of this folder is not UTF-8, which Prefect and Arrow cannot take: rename it"
        ) from None
    except RuntimeError as error:
        raise ValueError(str(error)) from None


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)]
Lines = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_lines)]
Patterns = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_lines), AfterValidator(_check_patterns)]
Bins = Annotated[
    tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]],
    NoDecode,
    BeforeValidator(_split_bins),
]
FolderPath = Annotated[Path, BeforeValidator(expand_folder)]
PhotoRoots = Annotated[RootFolders | None, NoDecode, BeforeValidator(lambda value: parse_roots(value, expand_folder))]
Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseSettings):
    """All settings of Image Recommender; `Settings.load` reads them from their sources."""

    model_config = SettingsConfigDict(env_prefix="IMGREC_", env_ignore_empty=True, extra="forbid", frozen=True)

    # Where
    images_root: PhotoRoots = Field(
        None, description="folder of photos, or several as NAME=FOLDER, one a line; a library remembers its own"
    )
    library: FolderPath = Field(DEFAULT_LIBRARY, validate_default=True, description="folder of the library")

    exclude: Patterns | None = Field(
        None, description="what is left out, by gitignore's rules, one a line; a library remembers its own"
    )
    follow_links: bool | None = Field(None, description="follow symbolic links; a library remembers its choice")
    models_root: FolderPath = Field(
        DEFAULT_MODELS_ROOT, validate_default=True, description="folder of models; libraries share it"
    )

    # Vectors: what changes them is kept by a library from its creation on
    modalities: Names | None = Field(
        None, min_length=1, description="modalities to compute; a library remembers its own"
    )
    bins: Bins = Field((8, 8, 8), description="colour histogram: bins of hue, saturation, value")
    decode_min_side: int = Field(448, ge=64, le=4096, description="JPEGs are decoded no smaller than this, in pixels")
    sift_codebook: str = Field("default", description="SIFT's codebook: the packaged one, or a library's own")
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="in which learned models compute: float32, or on a GPU bf16 or fp16, faster and coarser"
    )
    cpu_runtime: Literal["onnxruntime", "torch"] = Field(
        "onnxruntime", description="what computes efficientnet on a CPU in float32; both to 1e-6 the same"
    )
    icc_profiles: Literal["srgb", "ignored"] = Field(
        "srgb", description="colour profiles inside of pictures: converted to sRGB, or ignored"
    )
    openclip_model: str = Field(
        "ViT-L-14-quickgelu.openai", description="model of openclip: `arch.tag`, or the name it was added by"
    )
    dreamsim_type: Literal[
        "open_clip_vitb32", "clip_vitb32", "dino_vitb16", "dinov2_vitb14", "synclr_vitb16", "ensemble"
    ] = Field("open_clip_vitb32", description="which DreamSim: its backbone, or the `ensemble` of three")
    max_megapixels: float = Field(256, gt=0, description="larger pictures are not decoded")
    decode_timeout_s: float = Field(
        60, gt=0, le=86_400, description="a picture that takes longer to decode fails, in seconds"
    )

    # Thumbnails
    thumbnails: bool = Field(True, description="keep a thumbnail of 64 pixels of each photo, made while it is decoded")
    thumbnail_cache_mb: float = Field(
        1_000, ge=0, description="larger thumbnails, made as they are looked at, are kept up to this size"
    )

    # Work
    chunk_size: int = Field(1_024, ge=1, le=1_000_000, description="images in a chunk, which is one task and one shard")
    model_batch_size: int = Field(32, ge=1, description="images in one forward pass of a learned embedder")
    executor: str = Field(
        "local",
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="who embeds: processes of this machine, this process itself (`debug`), jobs of a cluster (`slurm`, "
        "`dask`), or what another package brings",
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="where models run: auto, cpu, cuda:N, mps"
    )
    workers: int | None = Field(None, ge=1, le=1024, description="worker processes; default: one a core")
    orchestrate: Literal["prefect", "none"] = Field(
        "prefect", description="who runs the steps: Prefect (cached, watched in its UI), or none, without any server"
    )
    show_photos: Literal["local", "always", "never"] = Field(
        "local",
        description="show pictures and names of hits in Prefect's UI: if its server is on this machine, always, never",
    )
    retries: int = Field(
        3, ge=0, le=100, description="how often a task that failed for a temporary reason is tried again"
    )
    max_missing_share: Share = Field(0.5, description="more photos than this share gone at once stops the ingest")
    max_failed_share: Share = Field(1.0, description="more failed images than this share makes the ingest an error")

    # Jobs of a SLURM cluster: what `sbatch` is asked for
    slurm_partition: str | None = Field(None, description="partition; default: the cluster's")
    slurm_account: str | None = Field(None, description="account that pays; default: the user's")
    slurm_qos: str | None = Field(None, description="quality of service")
    slurm_constraint: str | None = Field(None, description="features that nodes must have, as in `a100&ib`")
    slurm_gpus_per_node: int = Field(0, ge=0, le=1, description="GPUs of a job that runs models: 0 or 1")
    slurm_cpus_per_task: int = Field(4, ge=1, le=1024, description="cores of a job, one worker process each")
    slurm_mem_gb: float = Field(8, gt=0, description="memory of a job, in GB")
    slurm_timeout_min: int = Field(60, ge=1, description="time of a job, in minutes; it goes on where it was ended")
    slurm_max_running: int = Field(64, ge=1, le=1_000, description="jobs that run at once")
    slurm_setup: Lines = Field((), description="lines of shell before the work, as in `module load cuda`")
    slurm_parameters: dict[str, str | int | bool] = Field(
        {}, description="further parameters of sbatch by name, as in `{ reservation = 'mine' }`"
    )
    slurm_poll_s: float = Field(10, gt=0, description="seconds between two questions to SLURM for all jobs")

    # Index
    indexes: Names | None = Field(
        None,
        min_length=1,
        description="indexes to build beside those that are there; default: one per modality, and all combined",
    )
    index_type: Literal["auto", "exact", "graph", "inverted", "hnsw"] = Field(
        "auto",
        description="kind of index: exact search, a graph over reduced rows, inverted lists, HNSW over whole vectors; "
        "auto takes the first that reaches `target_recall`",
    )
    target_recall: float = Field(
        0.99, ge=0.5, le=1, description="recall@10 that an index is tuned to, measured on its own vectors"
    )
    hnsw_m: int = Field(24, ge=4, le=512, description="HNSW: links a vector")
    ef_construction: int = Field(100, ge=8, le=10_000, description="HNSW: candidates at building")
    ef_search: int | None = Field(
        None, ge=1, le=100_000, description="candidates at searching; default: as many as `target_recall` takes"
    )
    index_batch_size: int = Field(16_384, ge=256, description="vectors read at a time for an index; never over 64 MB")
    recall_sample: int = Field(200, ge=0, le=100_000, description="queries of the recall measurement; 0: none")

    # Search
    top_k: int = Field(10, ge=1, le=100_000, description="hits a query")

    # Map
    n_neighbors: int = Field(15, ge=2, le=200, description="map: neighbours of a photo that shape it")
    min_dist: float = Field(0.1, ge=0, le=1, description="map: how near neighbours may lie")
    min_cluster_size: int | None = Field(
        None, ge=2, description="map: photos that make a cluster; default: half the root of all, at least 5"
    )
    map_points: int = Field(
        200_000, ge=100, description="map: of more photos than these, so many are laid out, and the others beside them"
    )
    graph_points: int = Field(10_000, ge=0, description="map: of more photos than these, so many are in the graph")
    graph_threshold: float | None = Field(
        None, ge=-1, le=1, description="map: similarity from which photos are linked; default: the median of neighbours"
    )
    map_seed: int = Field(0, ge=0, le=2**31 - 1, description="map: the same seed gives the same map")

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        """Take former names too; where both are given, the present one counts."""
        return {RENAMED.get(name, name): values.get(RENAMED.get(name, name), value) for name, value in values.items()}

    @classmethod
    def load(cls, **flags: Any) -> "Settings":
        """Read settings from every source; `flags` that are None are not given.

        Raises:
            SettingsError: names the setting, its value, and what is allowed.
        """
        _refuse_unknown_variables()
        given = _formerly_named_variables()
        given |= {RENAMED.get(name, name): value for name, value in flags.items() if value is not None}
        library = find_library(given)
        _refuse_file(library)
        files = [library / SETTINGS_FILE, Path.cwd() / SETTINGS_FILE]
        for file in files:
            _read_toml(file)

        class FromSources(cls):  # type: ignore[valid-type, misc] # the files are known only now
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=files)

        try:
            return FromSources(**given)
        except ValidationError as error:
            raise SettingsError("; ".join(_explain(details) for details in error.errors())) from None

    def limits(self) -> dict[str, float]:
        """The settings that refuse a picture as it is; where they grow, it is tried again."""
        return {"max_megapixels": self.max_megapixels, "decode_timeout_s": self.decode_timeout_s}

    def given_vector_settings(self) -> dict[str, Any]:
        """The settings that change vectors, as far as some source named them."""
        return {name: value for name, value in self.vector_settings().items() if name in self.model_fields_set}

    def vector_settings(self) -> dict[str, Any]:
        """The settings that change vectors, as a library keeps them."""
        return {
            "bins": list(self.bins),
            "decode_min_side": self.decode_min_side,
            "sift_codebook": self.sift_codebook,
            "precision": self.precision,
            "cpu_runtime": self.cpu_runtime,
            "icc_profiles": self.icc_profiles,
        }


def find_library(given: dict[str, Any]) -> Path:
    """Find the library first: which imgrec.toml belongs to it depends on it. What is no path is refused later."""
    here = Path.cwd() / SETTINGS_FILE
    named = given.get("library") or os.environ.get("IMGREC_LIBRARY") or _read_toml(here).get("library")
    for folder in (named, DEFAULT_LIBRARY):
        with suppress(TypeError, RuntimeError):
            return Path(folder or DEFAULT_LIBRARY).expanduser()
    return DEFAULT_LIBRARY


def _refuse_file(library: Path) -> None:
    for path in (library, *library.parents):
        if path.exists() and not path.is_dir():
            what = "this" if path == library else path
            raise SettingsError(f"library = {library}: {what} is a file; name a folder")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_small(path).decode())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no valid TOML: {error}") from None


def _refuse_unknown_variables() -> None:
    known = {f"IMGREC_{name.upper()}" for name in Settings.model_fields}
    understood = known | {f"IMGREC_{name.upper()}" for name in RENAMED}
    unknown = sorted(
        name for name in os.environ if name.upper().startswith("IMGREC_") and name.upper() not in understood
    )
    if unknown:
        raise SettingsError(f"{', '.join(unknown)}: no such setting; there are {', '.join(sorted(known))}")


def _formerly_named_variables() -> dict[str, Any]:
    """The values of `IMGREC_*` variables of a former name, by the present name of the setting."""
    variables = {name.upper(): value for name, value in os.environ.items()}
    return {
        present: variables[former]
        for former, present in ((f"IMGREC_{old.upper()}", new) for old, new in RENAMED.items())
        if former in variables and f"IMGREC_{present.upper()}" not in variables
    }


def _explain(details: Any) -> str:
    name = str(details["loc"][0])
    if details["type"] == "extra_forbidden":
        return f"{name}: no such setting in {SETTINGS_FILE}; there are {', '.join(sorted(Settings.model_fields))}"
    return f"{name} = {details['input']!r}: {details['msg'][0].lower()}{details['msg'][1:]}"
