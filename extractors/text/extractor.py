"""Transcripts to features: hidden states of a language model, per token or as their mean."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extractors.contract import (
    Blob,
    ClipEmpty,
    ClipFailed,
    ClipProblem,
    ExtractorRequest,
    Identity,
    Loaded,
    Source,
    States,
    Want,
)
from extractors.media.blob import text_blob
from extractors.models.copies import HostCopies, to_device
from extractors.models.devices import pick_device, pick_dtype
from extractors.models.memory import Halving, padded_size, units_that_fit, weights_must_fit
from extractors.models.padding import Padding, real_frames, sum_frames
from extractors.text.hidden_states import LanguageModel
from extractors.text.model import open_model
from extractors.text.tokenizer import Tokens
from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers

DEFAULT_MODEL = "baichuan-inc/Baichuan2-13B-Base"
#: Recipe -> named sums of the last hidden states it offers instead of single ones.
RECIPES: dict[str, dict[str, int]] = {
    "default": {},
    "mertools2024": {"last4sum": 4},
    "mertools2023": {"last4sum": 4},
}
#: Tokens of a padded batch that keep each kind of device busy.
BATCH_TOKENS = {"cpu": 512, "cuda": 4096}
#: A token takes 0.19 to 0.28 MB in Baichuan2-13B in float32, most of it in the MLP; other widths alike.
BYTES_PER_TOKEN_AND_WIDTH = 64
#: And every state that is kept, in float32 and in the model's own dtype.
BYTES_PER_STATE_AND_WIDTH = 8


class TextExtractor:
    """Hidden states of a language model over a clip's transcript.

    One row is one token of the text; special tokens that the tokenizer puts around it are seen by
    the model and left out of rows and means. Nothing from which the text could be read back is
    given on: no ids, no pieces.

    Parameters
    ----------
    request
        ``recipe``: ``default`` offers every hidden state; ``mertools2024`` and ``mertools2023`` the
        sum of the last four, summed in float32 since the published float16 sum can overflow.

    Raises
    ------
    UsageError
        Unknown recipe, model, device or dtype.
    """

    equal_sizes = False

    def __init__(self, request: ExtractorRequest) -> None:
        if request.recipe not in RECIPES:
            raise UsageError(
                f"text: recipe {request.recipe!r}: expected one of {', '.join(RECIPES)}"
            )
        self._sums = RECIPES[request.recipe]
        self._device = pick_device(request.device)
        published_half = bool(self._sums) and self._device.type == "cuda"
        asked = request.compute_dtype
        asked = "float16" if asked == "auto" and published_half else asked
        self._dtype, compute_dtype = pick_dtype(self._device, asked)
        self._halving = Halving()
        self._text_model = open_model(request.model or DEFAULT_MODEL)
        self.identity = self._identify(request.recipe, compute_dtype)

    def _identify(self, recipe: str, compute_dtype: str) -> Identity:
        facts = self._text_model
        layers: tuple[Layer, ...] = tuple(self._sums) or tuple(range(facts.n_layers + 1))
        return Identity(
            modality="text",
            model=facts.name,
            weights=facts.weights,
            recipe=recipe,
            preprocessing={
                "tokenizer": facts.tokenizer_digest,
                "special_tokens": "seen by the model, left out of rows and means",
                **({"sums": "float32"} if self._sums else {}),
            },
            pooling="mean",
            compute_dtype=compute_dtype,
            trained=facts.trained,
            layers=layers,
            widths=dict.fromkeys(layers, facts.width),
            default_layers=layers[-4:],
        )

    @property
    def batch_limit(self) -> int:
        """Tokens of a padded batch: what the device has memory for, and had."""
        return min(self._fitting, self._halving.limit)

    @cached_property
    def _fitting(self) -> int:
        facts = self._text_model
        bytes_per_width = BYTES_PER_TOKEN_AND_WIDTH + BYTES_PER_STATE_AND_WIDTH * facts.n_layers
        bytes_per_token = bytes_per_width * facts.width
        return units_that_fit(self._device, bytes_per_token, BATCH_TOKENS[self._device.type])

    @cached_property
    def _model(self) -> LanguageModel:
        with weights_must_fit(self.identity.model, self._dtype, self._device):
            return self._text_model.load(self._device, self._dtype)

    def path(self, source: Source) -> Path | None:  # noqa: ARG002 - a transcript is no file
        """Return None: a transcript comes with the clip list."""
        return None

    def open(self, source: Source) -> Blob:
        """Wrap the transcript and its digest.

        Raises
        ------
        ClipEmpty
            There is none, or nothing but white space.
        ClipFailed
            It is not valid Unicode.
        """
        if source.text is None:
            raise ClipEmpty("no transcript")
        if not source.text.strip():
            raise ClipEmpty("empty transcript")
        try:
            return text_blob(source.clip_id, source.text)
        except UnicodeEncodeError as error:
            raise ClipFailed("the transcript is not valid Unicode (a lone surrogate)") from error

    def load(self, blob: Blob) -> Loaded:
        """Tokenise.

        Raises
        ------
        ClipEmpty
            The text has no token.
        ClipFailed
            It has more tokens than the model takes: it is not cut.
        """
        tokens = self._text_model.tokenizer((blob.data or b"").decode())
        n_tokens, most = len(tokens), self._text_model.max_tokens
        if not tokens.real.any():
            raise ClipEmpty("empty transcript: it has no token")
        if most is not None and n_tokens > most:
            raise ClipFailed(
                f"transcript of {n_tokens} tokens, the model takes {most}: shorten or split it"
            )
        n_frames = int(tokens.real.sum())
        return Loaded(blob.clip_id, tokens, size=n_tokens, media_s=0.0, n_frames=n_frames)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:
        """Return the wanted states of each clip; a batch too large for the device is halved."""
        model = self._model  # weights that do not fit are no clip's fault
        texts: list[Tokens] = [loaded.payload for loaded in batch]
        return self._halving(
            texts, padded_size, lambda piece: self._run(model, piece, want), self._too_large
        )

    def _too_large(self, tokens: Tokens) -> ClipFailed:
        return ClipFailed(f"no memory on {self._device} for {len(tokens)} tokens")

    def _run(self, model: LanguageModel, texts: Sequence[Tokens], want: Want) -> list[States]:
        ids, real = _padded(texts, self._text_model.tokenizer.pad_id)
        n_tokens = torch.tensor([len(tokens) for tokens in texts])
        padding = Padding.around(real, self._device)
        states = model(
            to_device(ids, self._device),
            to_device(n_tokens, self._device),
            sorted(self._needed({*want.utterance, *want.frame})),
        )
        copies = HostCopies()
        frame = {
            layer: copies.take(real_frames(self._layer(states, layer), padding))
            for layer in want.frame
        }
        sums = {
            layer: copies.take(sum_frames(self._layer(states, layer), padding))
            for layer in want.utterance
        }
        copies.wait()
        ends = np.cumsum(padding.lengths)[:-1]
        per_clip = {layer: np.split(values.numpy(), ends) for layer, values in frame.items()}
        return [
            States(
                utterance={layer: (total[i] / n_rows).numpy() for layer, total in sums.items()},
                frame={layer: values[i].copy() for layer, values in per_clip.items()},
            )
            for i, n_rows in enumerate(padding.lengths)
        ]

    def _needed(self, wanted: Iterable[Layer]) -> set[int]:
        """Return the hidden states that the layers are made of."""
        return {state for layer in wanted for state in self._parts(layer)}

    def _parts(self, layer: Layer) -> Sequence[int]:
        if layer not in self.identity.layers:
            offered = describe_layers(self.identity.layers)
            raise UsageError(f"text: no layer {layer}; {self.identity.model} offers {offered}")
        if isinstance(layer, int):
            return (layer,)
        return range(self._text_model.n_layers + 1)[-self._sums[layer] :]

    def _layer(self, states: Mapping[int, Tensor], layer: Layer) -> Tensor:
        """Return a layer [B, T, D] in float32."""
        first, *others = (states[part] for part in self._parts(layer))
        total = first.float()
        for other in others:
            total = total + other
        return total


def _padded(texts: Sequence[Tokens], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return ids [B, T], filled up on the right, and which of them are tokens of the text."""
    longest = max(map(len, texts))
    ids = torch.full((len(texts), longest), pad_id)
    real = torch.zeros((len(texts), longest), dtype=torch.bool)
    for row, tokens in enumerate(texts):
        ids[row, : len(tokens)] = torch.from_numpy(tokens.ids)
        real[row, : len(tokens)] = torch.from_numpy(tokens.real)
    return ids, real
