"""The planner where half of the clips are stored: its time, and its memory in a process of its own."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scale_device import LAYERS, LOG, FakeDevice, make_clips, use_fake_device
from target import at_most

from extractors.contract import ExtractorRequest
from extractors.media.blob import read_blob
from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from mer_store.store.writer import ClipRows, PartWriter
from pipelines.extract import ExtractSettings, prepare, spec_of

#: The planner reads no features.
WIDTH = 8
PART_CLIPS = 1024


def planner(folder: Path, options: argparse.Namespace) -> None:
    """Fill a store, and plan the rest."""
    use_fake_device(folder, 1.0, WIDTH)
    os.environ.pop(LOG)
    make_clips(folder, options.clips).write(folder / "clips.csv")
    fill(folder, options.clips // 2)
    for again in ("", " again"):
        done = subprocess.run(
            [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, check=True
        )
        facts = json.loads(done.stdout)
        assert facts["n_to_do"] == options.clips - options.clips // 2, facts
        print(
            f"  {options.clips:,} clips, {facts['n_parts']} parts to make; the clip list alone takes "
            f"{facts['list_s']:.1f} s"
        )
        at_most(f"planning{again}, clip list included", facts["total_s"], 30, " s")
        at_most(f"most memory of planning{again}", facts["peak_bytes"] / 1e9, 2, " GB")


def fill(folder: Path, n_clips: int) -> None:
    """Store the first `n_clips` clips of the list."""
    device = FakeDevice(ExtractorRequest("audio"))
    features = Store.create(folder / "store").ensure(
        spec_of(device.identity, "utterance", "float16")
    )
    clips = make_clips(folder, n_clips).clips
    layers = dict.fromkeys(LAYERS, np.ones((1, WIDTH), np.float32))
    for start in range(0, n_clips, PART_CLIPS):
        with PartWriter(features, LAYERS) as writer:
            for clip in clips[start : start + PART_CLIPS]:
                assert clip.path
                origin = read_blob(clip.clip_id, clip.path).origin
                writer.add(
                    ClipRows(
                        clip.clip_id, "ok", digest=origin.digest, n_bytes=origin.n_bytes,
                        mtime_ns=origin.mtime_ns, layers=layers,
                    )
                )  # fmt: skip
            writer.commit()


def measure(folder: Path) -> None:
    """Plan, and print what it took."""
    started_s = time.perf_counter()
    clip_list = ClipList.read(folder / "clips.csv")
    list_s = time.perf_counter() - started_s
    settings = ExtractSettings(ExtractorRequest("audio", device="cpu"))
    extraction = prepare(Store.open(folder / "store"), clip_list, settings)
    total_s = time.perf_counter() - started_s
    status = Path("/proc/self/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    facts = {
        "n_to_do": extraction.plan.n_to_do,
        "n_parts": len(extraction.plan.parts),
        "list_s": list_s,
        "total_s": total_s,
        "peak_bytes": int(peak) * 1024,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
