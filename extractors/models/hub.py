"""Folders of models fetched from the model hub: weights without pickle where there are any, never code."""

from collections.abc import Sequence
from pathlib import Path

from mer_store.errors import UsageError

#: Settings and tokenizers. No code is among them.
SIDE_FILES = ("*.json", "*.txt", "tokenizer*", "*.model", "LICENSE*")
_SAFE = ("model.safetensors", "model-*.safetensors")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin")
_TIMEOUT_S = 20.0


def cached_folder(name: str) -> Path | None:
    """Return the folder that the hub's local cache has for `name`, whole or not, without asking the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, HFValidationError):
        return None


def download_folder(name: str) -> Path:
    """Fetch config, tokenizer and one format of weights.

    Raises
    ------
    UsageError
        The hub cannot be reached, does not know the name, or holds no weights that can be used. Says what
        can be done.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        listing = HfApi().model_info(name, timeout=_TIMEOUT_S).siblings or []
        patterns = [*weight_patterns([file.rfilename for file in listing]), *SIDE_FILES]
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*.py"]))
    except UsageError as error:
        raise UsageError(f"model {name}: {error}") from error
    except Exception as error:  # the hub's client raises its own, its HTTP library's and OSError
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise UsageError(
            f"model {name!r}: no such folder here, not complete in the hub's local cache, and the hub did "
            f"not give it ({type(error).__name__}: {reason}). Pass a local folder that holds config.json "
            f"and the weights; or set HF_ENDPOINT to a mirror that can be reached; or set HF_HOME to a "
            f"cache that holds the model and HF_HUB_OFFLINE=1"
        ) from error


def weight_patterns(files: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns of the weights to fetch of a repository's `files`: safetensors before ``.bin``."""
    for patterns in (_SAFE, _PICKLED):
        if any(
            Path(file).match(pattern) and "/" not in file for file in files for pattern in patterns
        ):
            return patterns
    raise UsageError(
        f"expected {' or '.join((*_SAFE, *_PICKLED))} in the repository, found {sorted(files)[:9]}"
    )
