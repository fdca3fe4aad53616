"""Clips' speech to features: hidden states per 20 ms frame, or as their mean."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch

from extractors.audio.model import HiddenStates
from extractors.audio.recipes import default_layers, recipe_named
from extractors.audio.rows import Rows, compute_rows, join_rows
from extractors.audio.waveform import (
    normalise,
    pad_to_chunks,
    require_length,
    require_sound,
)
from extractors.contract import (
    Blob,
    ClipFailed,
    ClipProblem,
    ExtractorRequest,
    Floats,
    Identity,
    Loaded,
    Source,
    States,
    Want,
)
from extractors.media.audio import AUDIO_RULE, decode_audio
from extractors.media.blob import read_blob
from extractors.models.devices import pick_device, pick_dtype
from extractors.models.memory import Halving, padded_size, units_that_fit, weights_must_fit
from extractors.models.speech import RATE_HZ, open_model
from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers

DEFAULT_MODEL = "TencentGameMate/chinese-hubert-large"
#: Raised when a change of this code changes numbers.
VERSION = 1
#: In a spec of half precision: once it was so below the lowest wanted layer only.
HALF_PRECISION = "products of all blocks; norms and the residual sum in float32"
#: Batches gain nothing on a CPU and pay for their padding; only clips under a second share one.
CPU_BATCH_SAMPLES = 2 * RATE_HZ
#: What keeps each kind of device busy.
BATCH_SAMPLES = {"cpu": CPU_BATCH_SAMPLES, "cuda": 320 * RATE_HZ}
#: A padded second of audio takes 21 to 27 MB in HuBERT-large in float32; other widths in proportion.
BYTES_PER_S_AND_WIDTH = 32e6 / 1024


class AudioExtractor:
    """Hidden states of a HuBERT, wav2vec 2.0 or WavLM model over a clip's speech.

    Layer 0 is the input of the first block, layer i the output of block i; in models with a stable layer
    norm (all "large" ones) the last layer, and it alone, carries the final norm, as in published features.

    Parameters
    ----------
    request
        ``recipe``: ``default`` offers every layer; ``mertools2024`` the sum of the last four and
        ``mertools2023`` the last, both over clips cut into 10 s chunks, as MERTools computes them.

    Raises
    ------
    UsageError
        Unknown recipe, model, device or dtype.
    """

    def __init__(self, request: ExtractorRequest) -> None:
        self._recipe = recipe_named(request.recipe)
        self._device = pick_device(request.device)
        asked = request.compute_dtype
        if asked == "auto" and self._recipe.published_dtype:
            asked = self._recipe.published_dtype
        self._dtype, self._dtype_name = pick_dtype(self._device, asked)
        self._speech_model = open_model(request.model or DEFAULT_MODEL)
        self._parts = self._recipe.parts(self._speech_model.n_layers)
        self.equal_sizes = self._speech_model.padding_changes_numbers
        self._halving = Halving()
        self.identity = self._identify(request.recipe)

    def _identify(self, recipe_name: str) -> Identity:
        model = self._speech_model
        layers = tuple(self._parts)
        return Identity(
            modality="audio",
            model=model.name,
            weights=model.weights,
            recipe=recipe_name,
            preprocessing={
                "rate_hz": RATE_HZ,
                "decoding": AUDIO_RULE,
                "normalisation": "mean 0, variance 1 over the clip" if model.normalises else "none",
                "min_samples": model.n_window,
                "frame_shift_s": model.n_hop / RATE_HZ,
                "version": VERSION,
                **({} if self._dtype == torch.float32 else {"half_precision": HALF_PRECISION}),
                **self._recipe.preprocessing(),
            },
            pooling="mean",
            compute_dtype=self._dtype_name,
            trained=model.trained,
            layers=layers,
            widths=dict.fromkeys(layers, model.width),
            default_layers=default_layers(layers, model.n_layers),
        )

    @property
    def batch_limit(self) -> int:
        """Samples of a padded batch: what the device has memory for, and had."""
        return min(self._fitting, self._halving.limit)

    @cached_property
    def _fitting(self) -> int:
        bytes_per_sample = BYTES_PER_S_AND_WIDTH * self._speech_model.width / RATE_HZ
        return units_that_fit(self._device, bytes_per_sample, BATCH_SAMPLES[self._device.type])

    @cached_property
    def _states(self) -> HiddenStates:
        with weights_must_fit(self.identity.model, self._dtype, self._device):
            return HiddenStates(self._speech_model, self._device, self._dtype)

    def path(self, source: Source) -> Path | None:
        """Return the clip's media file."""
        return source.path

    def open(self, source: Source) -> Blob:
        """Read the clip's media file.

        Raises
        ------
        ClipFailed
            There is none, or it cannot be read.
        """
        if source.path is None:
            raise ClipFailed("no media file in the clip list")
        return read_blob(source.clip_id, source.path)

    def load(self, blob: Blob) -> Loaded:
        """Decode to 16 kHz mono and normalise over the whole clip.

        Raises
        ------
        ClipEmpty
            No audio track, too short for one frame, or silence where the recipe refuses it.
        ClipFailed
            It cannot be decoded, or is longer than this model takes.
        """
        samples = decode_audio(blob, RATE_HZ)
        require_length(samples, self._speech_model.n_window)
        if self._recipe.refuses_silence:
            require_sound(samples)
        media_s = len(samples) / RATE_HZ
        if self._speech_model.normalises:
            samples = normalise(samples)
        if self._recipe.n_chunk:
            samples = pad_to_chunks(samples, self._recipe.n_chunk)
        most = self._speech_model.max_samples
        pieces = self._pieces(samples)
        if most is not None and len(pieces[0]) > most:
            raise ClipFailed(
                f"too long: {media_s:.0f} s of audio; {self._speech_model.name} needs too much memory "
                f"over {most / RATE_HZ:.0f} s: cut the clip, or take another model"
            )
        n_frames = sum(self._speech_model.n_frames(len(piece)) for piece in pieces)
        return Loaded(blob.clip_id, samples, size=len(samples), media_s=media_s, n_frames=n_frames)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Loaded], want: Want) -> list[States | ClipProblem]:
        """Return the wanted states of each clip; a batch too large for the device is halved.

        Raises
        ------
        UsageError
            A layer is wanted that the model does not have.
        """
        wanted = {*want.utterance, *want.frame}
        self._require_layers(wanted)
        if not wanted:
            return [States() for _ in batch]
        clips = [self._pieces(loaded.payload) for loaded in batch]
        rows = (row for group in self._groups(clips) for row in self._run(group, want))
        return [_outcome([next(rows) for _ in pieces], want) for pieces in clips]

    def _require_layers(self, wanted: Iterable[Layer]) -> None:
        if unknown := [layer for layer in wanted if layer not in self._parts]:
            offered = describe_layers(self._parts)
            raise UsageError(
                f"audio: no layer {describe_layers(unknown)}; {self.identity.model} offers {offered}"
            )

    def _pieces(self, samples: Floats) -> Sequence[Floats]:
        """Return what of a clip the model sees at once: all of it, or each of its chunks."""
        n_chunk = self._recipe.n_chunk
        if n_chunk is None or len(samples) <= n_chunk:
            return [samples]
        return list(samples.reshape(-1, n_chunk))

    def _groups(self, clips: Sequence[Sequence[Floats]]) -> Iterator[Sequence[Floats]]:
        """Give a batch as it came, but the chunks of one long clip no more at a time than the limit."""
        waveforms = [piece for pieces in clips for piece in pieces]
        n_at_once = max(1, len(waveforms))
        if len(clips) == 1:
            n_at_once = max(1, self.batch_limit // len(waveforms[0]))
        for start in range(0, len(waveforms), n_at_once):
            yield waveforms[start : start + n_at_once]

    def _run(self, waveforms: Sequence[Floats], want: Want) -> list[Rows | ClipProblem]:
        """Return one outcome per waveform."""
        states = self._states  # loaded here: weights that do not fit are no clip's fault
        return self._halving(
            waveforms,
            padded_size,
            lambda piece: compute_rows(states, piece, self._parts, want),
            self._too_large,
        )

    def _too_large(self, waveform: Floats) -> ClipFailed:
        return ClipFailed(
            f"no memory on {self._device} for {len(waveform) / RATE_HZ:.1f} s of audio"
        )


def _outcome(pieces: Sequence[Rows | ClipProblem], want: Want) -> States | ClipProblem:
    """Join a clip's chunks, or return the first problem among them."""
    for piece in pieces:
        if isinstance(piece, ClipProblem):
            return piece
    return join_rows([piece for piece in pieces if isinstance(piece, Rows)], want)
