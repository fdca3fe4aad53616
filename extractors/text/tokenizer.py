"""Text to token ids. Ids live in memory only: a transcript can be read back from them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mer_store.errors import UsageError

#: A tokenizer is made of whichever of these a checkpoint has; their bytes decide the ids.
TOKENIZER_FILES = (
    "added_tokens.json",
    "bpe.codes",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
#: Files that say how to use a vocabulary but hold none.
_SETTINGS = {"added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """One transcript as the model takes it. T tokens."""

    ids: NDArray[np.int64]
    """[T]"""
    real: NDArray[np.bool_]
    """[T], False at the special tokens that the tokenizer put around the text."""

    def __len__(self) -> int:
        """Count them, special ones too."""
        return len(self.ids)


class Tokenizer(Protocol):
    """Text to `Tokens`; called from several threads."""

    pad_id: int

    def __call__(self, text: str) -> Tokens:
        """Return the tokens of `text`: none of them real where there is nothing in it."""


class ByteTokenizer:
    """The tiny model's: one token per byte of UTF-8."""

    pad_id = 0

    def __call__(self, text: str) -> Tokens:
        """See `Tokenizer`."""
        ids = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
        return Tokens(ids, np.ones(len(ids), dtype=bool))


class SentencePieceTokenizer:
    """A sentencepiece model used as it stands: no token is added before or after the text.

    For Baichuan: transformers' LlamaTokenizer gives other ids for most texts, and the checkpoint's
    own class does not run on transformers 5.
    """

    pad_id = 0

    def __init__(self, path: Path) -> None:
        import sentencepiece

        if not path.is_file():
            raise UsageError(f"{path}: no such file; the checkpoint's tokenizer.model is needed")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise UsageError(f"{path}: not a sentencepiece model: {error}") from error

    def __call__(self, text: str) -> Tokens:
        """See `Tokenizer`."""
        ids = np.array(self._processor.encode(text), dtype=np.int64)
        return Tokens(ids, np.ones(len(ids), dtype=bool))


class FastTokenizer:
    """A tokenizer of transformers with its compiled backend.

    The tokens it adds (``[CLS]``, a BOS) go into the model, which was trained with them, and are
    not real.
    """

    def __init__(self, tokenizer: Any, pad_id: int) -> None:
        self.pad_id = pad_id
        self._backend = tokenizer.backend_tokenizer
        # A tokenizer.json may carry both; a text cut in silence would be a wrong feature.
        self._backend.no_truncation()
        self._backend.no_padding()

    @classmethod
    def from_folder(cls, folder: Path, model_config: Any) -> "FastTokenizer":
        """Build the tokenizer of a checkpoint, without running code that lies in it."""
        from transformers import AutoTokenizer

        if not any((folder / name).is_file() for name in set(TOKENIZER_FILES) - _SETTINGS):
            raise UsageError(
                f"{folder}: no tokenizer; expected tokenizer.json, vocab.txt, vocab.json "
                "or a sentencepiece model"
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise UsageError(
                f"{folder}: its tokenizer cannot be loaded without running the checkpoint's code: "
                f"{error}"
            ) from error
        if not tokenizer.is_fast:
            raise UsageError(
                f"{folder}: {type(tokenizer).__name__} has no compiled form; "
                "save a tokenizer.json beside the weights"
            )
        return cls(tokenizer, _pad_id(tokenizer, model_config))

    def __call__(self, text: str) -> Tokens:
        """See `Tokenizer`."""
        encoding = self._backend.encode(text)
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        return Tokens(np.array(encoding.ids, dtype=np.int64), ~special)


def _pad_id(tokenizer: Any, model_config: Any) -> int:
    """Return the id to fill with: RoBERTa counts positions by it, for others any id would do."""
    for pad_id in (tokenizer.pad_token_id, getattr(model_config, "pad_token_id", None)):
        if pad_id is not None and 0 <= pad_id < model_config.vocab_size:
            return int(pad_id)
    return 0


def tokenizer_digest(folder: Path, names: tuple[str, ...] = TOKENIZER_FILES) -> str:
    """Return ``sha256:`` and 64 hex digits over a checkpoint's tokenizer files and their names."""
    digest = hashlib.sha256()
    for name in sorted(names):
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"
