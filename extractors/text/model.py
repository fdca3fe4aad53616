"""A language model with its tokenizer: what each kind of checkpoint gives the text extractor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from extractors.models.checkpoints import (
    Checkpoint,
    iter_tensors,
    load_pretrained,
    locate,
    weights_digest,
)
from extractors.models.file_digests import file_digest
from extractors.models.tiny import TINY, tiny_text
from extractors.text import baichuan2
from extractors.text.hidden_states import LanguageModel, TransformersModel
from extractors.text.tokenizer import (
    ByteTokenizer,
    FastTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    tokenizer_digest,
)
from mer_store.errors import UsageError

#: Kinds whose first token has the position pad_token_id + 1, so that a text may be that much
#: shorter.
_POSITIONS_BEHIND_PAD = {
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}


@dataclass(frozen=True)
class TextModel:
    """Facts known before the weights are loaded, and the way to load them."""

    name: str
    """Short name for the spec."""
    weights: str
    """Digest of the weights."""
    trained: bool
    n_layers: int
    """Blocks; there is one hidden state more."""
    width: int
    max_tokens: int | None
    """Longest text in tokens, special ones counted; None is any length."""
    tokenizer: Tokenizer
    tokenizer_digest: str
    load: Callable[[torch.device, torch.dtype], LanguageModel]


def open_model(name: str) -> TextModel:
    """Read what a checkpoint is, without loading its weights.

    Parameters
    ----------
    name
        Hub name, local folder or ``tiny``.

    Raises
    ------
    UsageError
        There is none of this name; it has no tokenizer, needs code that lies in it, or is no
        language model.
    """
    if name == TINY:
        return _tiny_model()
    checkpoint = locate(name)
    if baichuan2.is_baichuan(checkpoint.config):
        return _baichuan_model(checkpoint)
    return _transformers_model(checkpoint)


def _tiny_model() -> TextModel:
    tiny = tiny_text()
    n_layers = tiny.model.config.num_hidden_layers
    return TextModel(
        name=tiny.name,
        weights=tiny.weights,
        trained=False,
        n_layers=n_layers,
        width=tiny.model.config.hidden_size,
        max_tokens=_max_tokens(tiny.model.config),
        tokenizer=ByteTokenizer(),
        tokenizer_digest="bytes of the UTF-8 text",
        load=lambda device, dtype: TransformersModel(tiny.model.to(device, dtype), n_layers),
    )


def _baichuan_model(checkpoint: Checkpoint) -> TextModel:
    config, vocabulary = checkpoint.config, checkpoint.folder / "tokenizer.model"
    where = f"model {checkpoint.folder}"
    baichuan2.check_config(config, where)

    def load(device: torch.device, dtype: torch.dtype) -> LanguageModel:
        tensors = iter_tensors(checkpoint)
        return baichuan2.load_baichuan(config, tensors, device, dtype, where)

    return TextModel(
        name=checkpoint.name,
        weights=weights_digest(checkpoint),
        trained=True,
        n_layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        max_tokens=baichuan2.max_tokens(config),
        tokenizer=SentencePieceTokenizer(vocabulary),
        tokenizer_digest=file_digest(vocabulary),
        load=load,
    )


def _transformers_model(checkpoint: Checkpoint) -> TextModel:
    from transformers import AutoConfig, AutoModel

    folder = checkpoint.folder
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"model {folder}: transformers knows no model_type "
            f"{checkpoint.config.get('model_type')!r} without running the checkpoint's own code, "
            "which is never done; give another model"
        ) from error
    if config.is_encoder_decoder or not hasattr(config, "num_hidden_layers"):
        raise UsageError(
            f"model {folder}: model_type {config.model_type!r}: expected an encoder such as BERT "
            "or a decoder such as Llama; give another model"
        )

    def load(device: torch.device, dtype: torch.dtype) -> LanguageModel:
        # A pooler is for sentence pairs: many are published without, and no hidden state needs it.
        model = load_pretrained(AutoModel, checkpoint, dtype, may_be_missing=[r"(.*\.)?pooler\..*"])
        return TransformersModel(model.to(device), config.num_hidden_layers)

    return TextModel(
        name=checkpoint.name,
        weights=weights_digest(checkpoint),
        trained=True,
        n_layers=config.num_hidden_layers,
        width=config.hidden_size,
        max_tokens=_max_tokens(config),
        tokenizer=FastTokenizer.from_folder(folder, config),
        tokenizer_digest=tokenizer_digest(folder),
        load=load,
    )


def _max_tokens(config: Any) -> int | None:
    n_positions = getattr(config, "max_position_embeddings", None)
    if n_positions is None or n_positions <= 0:
        return None
    behind_pad = config.model_type in _POSITIONS_BEHIND_PAD
    return int(n_positions) - (config.pad_token_id + 1 if behind_pad else 0)
