"""`extract` end to end against the bare model loop on decoded arrays.

A full-size HuBERT-large with random weights, wav clips made on the spot with lengths as in MER2024 (mean
3.13 s). The baseline is what nobody can beat without running less of the model: decoded arrays in memory,
one forward a clip, all blocks, layers 16-21 pooled, nothing written. `extract` reads the files, decodes,
batches, pools, writes checksummed parts, commits; blocks 22-24 are not needed and not run.

Run in pairs, A B A B, since these machines are noisy:
    python benchmarks/extract_audio.py --clips 32 --rounds 3
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig, HubertModel

from extractors.contract import ExtractorRequest
from mer_store.clips.clip_list import Clip, ClipList
from mer_store.store.store import Store
from pipelines.extract import ExtractSettings, prepare

RATE_HZ = 16_000
MEAN_S = 3.13
LAYERS = range(16, 22)


@dataclass(frozen=True)
class Times:
    """Of one measured stretch: on the wall, and of all cores of this process."""

    wall_s: float
    cpu_s: float


def clock() -> Callable[[], Times]:
    """Start a clock; calling what is returned stops it."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    return lambda: Times(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def save_model(folder: Path, device: str) -> None:
    """Write a full-size HuBERT-large with random weights, unless it is there."""
    if (folder / "config.json").exists():
        return
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
    )  # fmt: skip
    with torch.device(device):
        model = HubertModel(config)
    model.to("cpu").save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"do_normalize": True, "sampling_rate": RATE_HZ, "feature_size": 1})
    )


def make_clips(folder: Path, n_clips: int) -> ClipList:
    """Write `n_clips` wav files of noise, log-normal in length about `MEAN_S`."""
    rng = np.random.default_rng(0)
    lengths_s = np.clip(rng.lognormal(np.log(MEAN_S) - 0.18, 0.6, n_clips), 0.5, 20)
    clips = []
    for number, length_s in enumerate(lengths_s):
        path = folder / f"clip{number:06}.wav"
        samples = rng.normal(0, 3000, int(length_s * RATE_HZ)).astype("<i2")
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE_HZ, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        clips.append(Clip(path.stem, path, None, None, None, None))
    return ClipList(tuple(clips), path=folder / "clips.csv")


def load_waveforms(clip_list: ClipList) -> list[torch.Tensor]:
    """Decode every clip, normalised as HuBERT wants it: not part of the baseline's time."""
    waveforms = []
    for clip in clip_list.clips:
        with wave.open(str(clip.path)) as file:
            samples = (
                np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 2**15
            )
        waveforms.append(
            torch.from_numpy((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))
        )
    return waveforms


@torch.inference_mode()
def bare_loop(model: HubertModel, waveforms: list[torch.Tensor], dtype: torch.dtype) -> Times:
    """One forward a clip on decoded arrays."""
    device = next(model.parameters()).device
    stop = clock()
    for waveform in waveforms:
        batch = waveform[None].to(device=device, dtype=dtype)
        states = model(batch, output_hidden_states=True).hidden_states
        torch.stack([states[layer].float().mean(dim=1)[0] for layer in LAYERS]).cpu()
    return stop()


def run_extract(model: Path, clip_list: ClipList, device: str, layers: str) -> Times:
    """`extract` into a fresh store, as the command does it, without the start of the process."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store")
        settings = ExtractSettings(
            ExtractorRequest("audio", str(model), device=device), layers=layers
        )
        extraction = prepare(store, clip_list, settings)
        stop = clock()
        report = extraction.run()
        times = stop()
        assert report.tally.n_ok == len(clip_list.clips), report
        waiting, writing = report.tally.waiting_s, report.tally.writing_s
        print(
            f"  extract: {times.wall_s:.1f} s  model waits {waiting / times.wall_s:.1%}  "
            f"writing {writing / times.wall_s:.1%}",
            file=sys.stderr,
        )
        return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--model", type=Path, default=Path(tempfile.gettempdir()) / "mer-store-bench-hubert-large"
    )
    options = parser.parse_args()
    save_model(options.model, options.device)
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    model = HubertModel.from_pretrained(options.model).to(device=options.device, dtype=dtype).eval()
    with tempfile.TemporaryDirectory() as folder:
        clip_list = make_clips(Path(folder), options.clips)
        waveforms = load_waveforms(clip_list)
        audio_s = sum(len(waveform) for waveform in waveforms) / RATE_HZ
        run_extract(options.model, clip_list, options.device, "16-21")  # loads the model, warms up
        bare_loop(model, waveforms[:2], dtype)
        rounds = []
        for number in range(options.rounds):
            bare = bare_loop(model, waveforms, dtype)
            cut = run_extract(options.model, clip_list, options.device, "16-21")
            full = run_extract(options.model, clip_list, options.device, "16-21,24")
            rounds.append((bare, cut, full))
            print(
                f"round {number + 1}: bare {bare.wall_s:.1f} s, extract {cut.wall_s:.1f} s, "
                f"all blocks {full.wall_s:.1f} s",
                file=sys.stderr,
            )
    for name, place, target in (
        ("layers 16-21, blocks 22-24 not run", 1, "< 1.0"),
        ("layers 16-21 and 24, all blocks", 2, "<= 1.10"),
    ):
        wall = statistics.median(times[place].wall_s / times[0].wall_s for times in rounds)
        cpu = statistics.median(times[place].cpu_s / times[0].cpu_s for times in rounds)
        print(
            f"extract / bare loop, {name}: {wall:.3f} of its time, {cpu:.3f} of its CPU ({target})"
        )
    fastest_s = statistics.median(cut.wall_s for _, cut, _ in rounds)
    print(f"audio hours per second on {options.device}: {audio_s / 3600 / fastest_s:.6f}")


if __name__ == "__main__":
    main()
