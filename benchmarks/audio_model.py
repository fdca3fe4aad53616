"""The audio extractor's call against the bare transformers model, on decoded arrays of random speech length.

The baseline is what anyone would write: one clip a forward, all 24 blocks, every state kept, layers 16-21
pooled. The extractor does the same rows; blocks 22-24 are not run, and on a GPU clips share batches. The
width is HuBERT-large's; weights are random. Run in pairs, A B A B, since these machines are noisy:

    python benchmarks/audio_model.py --rounds 3 --clips 8
    python benchmarks/audio_model.py --rounds 5 --clips 512 --device cuda:0
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import HubertConfig, HubertModel

from extractors.audio.extractor import AudioExtractor
from extractors.audio.model import HiddenStates
from extractors.batching import batches
from extractors.contract import ExtractorRequest, Loaded, Want
from extractors.models.speech import RATE_HZ, SpeechModel

LAYERS = tuple(range(16, 22))


def build(device: str, dtype: str) -> tuple[AudioExtractor, HubertModel]:
    """Return both around the same weights, HuBERT-large's in size."""
    config = HubertConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    model = HubertModel(config).eval()
    extractor = AudioExtractor(
        ExtractorRequest("audio", model="tiny", device=device, compute_dtype=dtype)
    )
    large = SpeechModel("large", "random", False, config, True, lambda: twin(model))
    extractor._speech_model = large
    extractor._states = HiddenStates(large, extractor._device, extractor._dtype)
    return extractor, model


def twin(model: HubertModel) -> HubertModel:
    """Return another model with the same weights; a deep copy shares the class that holds its weight norm."""
    other = HubertModel(model.config).eval()
    other.load_state_dict(model.state_dict())
    return other


def clips(n_clips: int) -> list[Loaded]:
    """Return noise as long as MER2024's clips: 3.13 s in the mean."""
    rng = np.random.default_rng(0)
    lengths = (rng.gamma(3.0, 3.13 / 3.0, n_clips).clip(0.5, 20) * RATE_HZ).astype(int)
    return [
        Loaded(str(i), rng.standard_normal(n, np.float32), int(n), n / RATE_HZ, 1)
        for i, n in enumerate(lengths)
    ]


@torch.inference_mode()
def bare(model: HubertModel, loaded: list[Loaded], device: str, dtype: str) -> list[np.ndarray]:
    """Run the model clip by clip."""
    rows = []
    half = dtype not in ("float32", "auto") or (dtype == "auto" and device != "cpu")
    kind = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    for clip in loaded:
        samples = torch.from_numpy(clip.payload)[None].to(device)
        with torch.autocast(device.split(":", maxsplit=1)[0], dtype=kind, enabled=half):
            states = model(samples, output_hidden_states=True).hidden_states
        rows.append(
            torch.stack([states[layer][0].float().mean(0) for layer in LAYERS]).cpu().numpy()
        )
    return rows


def ours(extractor: AudioExtractor, loaded: list[Loaded]) -> list[np.ndarray]:
    """Run the extractor over batches as the engine makes them."""
    rows: dict[str, np.ndarray] = {}
    for batch in batches(loaded, extractor.batch_limit):
        for clip, states in zip(batch, extractor(batch, Want(utterance=LAYERS)), strict=True):
            rows[clip.clip_id] = np.stack([states.utterance[layer] for layer in LAYERS])
    return [rows[clip.clip_id] for clip in loaded]


def timed(run: Callable[[], object], device: str) -> float:
    """Time one run: on a CPU in seconds of its cores, which neighbours disturb less than the clock's."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    started_s = clock()
    run()  # its rows are on the CPU, so the device is done
    return clock() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    extractor, model = build(options.device, options.dtype)
    loaded = clips(options.clips)
    audio_s = sum(clip.media_s for clip in loaded)
    runs = {
        "ours": lambda: ours(extractor, loaded),
        "bare": lambda: bare(model, loaded, options.device, options.dtype),
    }
    rows = {name: run() for name, run in runs.items()}  # warms up, and is compared
    error = max(
        np.abs(a - b).max() / np.sqrt((b**2).mean())
        for a, b in zip(rows["ours"], rows["bare"], strict=True)
    )
    print(f"{options.clips} clips, {audio_s:.0f} s of audio; rows differ by {error:.1e} relative")
    taken_s = [
        {name: timed(run, options.device) for name, run in runs.items()}
        for _ in range(options.rounds)
    ]
    unit = "core-second" if options.device == "cpu" else "second"
    for name in runs:
        median_s = statistics.median(pair[name] for pair in taken_s)
        print(f"{name:6} {audio_s / median_s:8.2f} s of audio a {unit}")
    ratios = sorted(pair["bare"] / pair["ours"] for pair in taken_s)
    print(f"ours is {statistics.median(ratios):.2f}x as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
