"""Checkpoints: a model's folder of config and weights, its digest, and its tensors. Never remote code."""

import json
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from extractors.models.file_digests import combined_digest, file_digest
from extractors.models.hub import cached_folder, download_folder
from mer_store.errors import UsageError

__all__ = [
    "Checkpoint",
    "iter_tensors",
    "load_pretrained",
    "locate",
    "weights_digest",
]

#: Weight files by preference: without pickle before with, one file before shards, as transformers.
WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
#: One of these says how a model's input is prepared.
PREPARATION_NAMES = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenizer.json",
)

#: Settings that change no number of a forward pass, and differ between copies of the same weights.
COSMETIC_KEYS = frozenset(
    {
        "transformers_version",
        "torch_dtype",
        "dtype",
        "architectures",
        "auto_map",
        "gradient_checkpointing",
    }
)


@dataclass(frozen=True)
class Checkpoint:
    """A local folder that holds a model."""

    name: str
    """Short name for the spec: the last piece of the hub name or folder."""
    folder: Path
    config: dict[str, Any]
    """The folder's config.json."""

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """Every file of weights, sorted by name: safetensors where there are any, else ``.bin``.

        Raises
        ------
        UsageError
            There are none, or a shard named by the index is missing.
        """
        for name in WEIGHT_NAMES:
            if (self.folder / name).is_file():
                return _shards(self.folder / name)
        raise UsageError(
            f"model {self.folder}: no weights: expected one of {', '.join(WEIGHT_NAMES)}; "
            f"pass a folder that transformers' save_pretrained wrote"
        )

    @property
    def has_safetensors(self) -> bool:
        """Whether the weights are safetensors rather than pickled ``.bin`` files."""
        return self.weight_files[0].suffix == ".safetensors"


def locate(name_or_dir: str | Path) -> Checkpoint:
    """Find a model: a local folder that holds a config.json, else a name on the model hub.

    What the hub's local cache already holds is used without asking the hub, so that a running job never
    changes its model. Fetches safetensors where the repository has them, else ``.bin``; never code.

    Raises
    ------
    UsageError
        There is no such folder, or the hub cannot give it. Says what was tried.
    """
    folder = Path(name_or_dir).expanduser()
    if folder.is_dir():
        return _open_folder(folder.resolve())
    name = str(name_or_dir)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise UsageError(f"model {name!r}: no such folder, and no hub name (owner/name)")
    short_name = name.rpartition("/")[2]
    cached = cached_folder(name)
    if cached and _is_whole(cached):
        return _open_folder(cached, short_name)
    return _open_folder(download_folder(name), short_name)


def weights_digest(checkpoint: Checkpoint) -> str:
    """Return ``sha256:`` and 64 hex digits over the weight files' bytes and the config without cosmetic keys.

    File digests are remembered by path, size and modification time (see `extractors.models.file_digests`).
    """
    config = {
        key: value
        for key, value in checkpoint.config.items()
        if key not in COSMETIC_KEYS and not key.startswith("_")
    }
    settings = json.dumps(config, sort_keys=True, ensure_ascii=False)
    return combined_digest([settings, *(file_digest(path) for path in checkpoint.weight_files)])


def iter_tensors(checkpoint: Checkpoint, device: str = "cpu") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every named tensor, holding one shard at a time (of safetensors: one tensor).

    Pickled files are read without running code.
    """
    with _reading(checkpoint):
        yield from _tensors(checkpoint, device)


def _tensors(checkpoint: Checkpoint, device: str) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open

    for path in checkpoint.weight_files:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt", device=device) as shard:
                for name in shard.keys():  # noqa: SIM118 - not a dict, it cannot be iterated
                    yield name, shard.get_tensor(name)
        else:
            state = torch.load(path, map_location=device, weights_only=True, mmap=_is_zip(path))
            yield from state.items()


def load_pretrained(
    model_class: Any, checkpoint: Checkpoint, dtype: torch.dtype, may_be_missing: Sequence[str] = ()
) -> Any:
    """Load a transformers model from `checkpoint`, in eval mode on the CPU, without running its code.

    Parameters
    ----------
    may_be_missing
        Regular expressions of tensors that the checkpoint need not hold, because inference never uses them.

    Raises
    ------
    UsageError
        The weights cannot be read, or lack tensors of the model: it would compute with random numbers.
    """
    with _reading(checkpoint):
        model, info = model_class.from_pretrained(
            checkpoint.folder,
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=checkpoint.has_safetensors,
            weights_only=True,
            output_loading_info=True,
        )
    absent = sorted(
        key for key in info["missing_keys"] if not any(re.fullmatch(p, key) for p in may_be_missing)
    )
    if absent:
        named = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        raise UsageError(
            f"model {checkpoint.folder}: the weights lack {named}, which {model_class.__name__} needs; "
            f"expected a checkpoint of that class, got model_type {checkpoint.config.get('model_type')!r}"
        )
    return model.eval()


@contextmanager
def _reading(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what readers raise on damaged files, or on pickles that want to run code, into one error."""
    from safetensors import SafetensorError

    try:
        yield
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"model {checkpoint.folder}: its weights cannot be read: a file is damaged, or holds more than "
            f"tensors, and code in a checkpoint is never run; take one in safetensors"
        ) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"model {checkpoint.folder}: its weights cannot be read: {type(error).__name__}: {reason}"
        ) from error


def _open_folder(folder: Path, short_name: str | None = None) -> Checkpoint:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"model {folder}: no config.json in this folder; pass the model's own folder"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(config).__name__}")
    return Checkpoint(_spec_name(short_name or _folder_name(folder)), folder, config)


def _is_whole(folder: Path) -> bool:
    """Tell whether a cache folder has the weights and says how input is prepared; other tools fetch less."""
    try:
        has_weights = bool(_open_folder(folder).weight_files)
    except UsageError:
        return False
    return has_weights and any((folder / name).is_file() for name in PREPARATION_NAMES)


def _folder_name(folder: Path) -> str:
    """Name a folder; one inside a hub cache (models--owner--name/snapshots/<commit>) by its repository."""
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.rpartition("--")[2]
    return folder.name


def _spec_name(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "model"


def _shards(path: Path) -> tuple[Path, ...]:
    if path.suffix != ".json":
        return (path,)
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: expected an index with a weight_map, got {error}") from error
    if any("/" in name or "\\" in name for name in names):
        raise UsageError(
            f"{path}: a shard lies outside the model's folder; expected plain file names"
        )
    shards = tuple(path.parent / name for name in names)
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise UsageError(
            f"model {path.parent}: {path.name} names {', '.join(missing)}: no such file"
        )
    return shards


def _is_zip(path: Path) -> bool:
    """Tell the current ``.bin`` format, which can be memory-mapped, from the one before torch 1.6."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"
