"""`efficientnet.pca64` and the like: another modality's vectors, made short by an encoder that the library learnt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgrec.embedders.base import Embedder, EmbedderSpec, Vectors
from imgrec.embedders.compression.encoder import Encoder, encoder_path, load_encoder
from imgrec.embedders.derived import DerivedEmbedder
from imgrec.embedders.errors import EmbedderParameterError, ModelFileError

# A library's vector settings name each compressed modality's encoder, by digest, in a setting of its own: so settings
# of before it was learnt are a part of those of today.
_PREFIX = "encoder:"


def encoder_setting(modality: str) -> str:
    """The vector setting that names the encoder of a compressed modality."""
    return _PREFIX + modality


def encoders_of(vector_settings: Mapping[str, Any]) -> dict[str, str]:
    """The digests of the encoders that these settings name, by modality."""
    return {name.removeprefix(_PREFIX): digest for name, digest in vector_settings.items() if name.startswith(_PREFIX)}


class CompressedEmbedder(DerivedEmbedder):
    """The source's vectors, encoded to `dim` numbers; docs/compression.md says what that keeps."""

    def __init__(self, name: str, source: Embedder, encoder: Encoder) -> None:
        super().__init__(source)
        learnt_from = encoder.facts.get("source")
        if learnt_from != source.spec.fingerprint or encoder.source_dim != source.spec.dim:
            raise EmbedderParameterError(
                f"{name} was learnt from vectors of fingerprint {learnt_from}, and {source.spec.name} has "
                f"{source.spec.fingerprint} now: `imgrec compress drop {name}`, `imgrec ingest`, "
                f"`imgrec compress train {name}`"
            )
        self._encoder = encoder
        self.spec = EmbedderSpec(
            name=name,
            version=1,
            dim=encoder.dim,
            decode_min_side=source.spec.decode_min_side,
            parameters={"source": source.spec.fingerprint, "encoder": encoder.digest},
            licence=source.spec.licence,
            origin=f"{encoder.facts.get('method')} of {source.spec.name}",
            icc_profiles=source.spec.icc_profiles,
        )

    @classmethod
    def from_settings(
        cls, name: str, source: Embedder, vector_settings: Mapping[str, Any], models_dir: Path | None
    ) -> "CompressedEmbedder":
        digest = vector_settings.get(encoder_setting(name))
        if digest is None or models_dir is None:
            raise ModelFileError(f"{name} is not learnt yet: `imgrec compress train {name}` learns it")
        return cls(name, source, load_encoder(models_dir, digest))

    def derive(self, vectors: Vectors) -> Vectors:
        return self._encoder.encode(vectors)


def encoder_files(vector_settings: Mapping[str, Any], models_dir: Path) -> list[Path]:
    """The files of all encoders that these settings name."""
    return [encoder_path(models_dir, digest) for digest in encoders_of(vector_settings).values()]
