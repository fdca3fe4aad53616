"""Run every benchmark, one after the other, then print all figures with their targets: `make bench`.

python benchmarks/run_all.py                        three quarters of an hour on two cores
python benchmarks/run_all.py --full                 the sizes of the targets: hours
python benchmarks/run_all.py storage.py scale.py    these alone
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from target import GATHERED, Figure, gathered

HERE = Path(__file__).parent
#: Script -> what it is given for the sizes that the targets speak of.
SCRIPTS = {
    "storage.py": ("--utterances", "115595", "--clips", "1024", "--rounds", "5"),
    "decoding.py": (),
    "clips.py": (),
    "nothing_to_do.py": (),
    "scale.py": ("--full",),
    "audio_model.py": (),
    "text_model.py": (),
    "baseline_audio.py": (),
    "visual_path.py": ("--full", "--clips", "12"),
    "loading.py": ("--rounds", "9"),
    "dataloader.py": ("--clips", "1024", "--rounds", "9"),
    "verify.py": ("--megabytes", "1000"),
    "sharing.py": ("--gb", "2", "--rounds", "5"),
    "fusion_launch.py": ("--scale", "1"),
    "gpu.py": ("all", "--device", "cuda:0"),
}
#: What runs only where there is a GPU, at full size always.
OF_GPU = "gpu.py"


def table(figures: list[tuple[str, Figure]]) -> str:
    """Return the figures as a table in Markdown."""
    lines = ["| benchmark | figure | measured | target | |", "|---|---|---:|---:|---|"]
    for script, figure in figures:
        sign = ">=" if figure.at_least else "<="
        verdict = f"missed by {figure.missed_by:.0%}" if figure.missed_by else "met"
        why = f": {figure.why}" if figure.missed_by and figure.why else ""
        lines.append(
            f"| {script} | {figure.what} | {figure.value:.3g}{figure.unit} "
            f"| {sign} {figure.target:.3g} | {verdict}{why} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run them in order; go on after one that fails, and say so at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scripts", nargs="*", choices=[*SCRIPTS, []], metavar="SCRIPT")
    parser.add_argument("--full", action="store_true")
    chosen = parser.parse_args()
    figures: list[tuple[str, Figure]] = []
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.scripts or SCRIPTS:
            if name == OF_GPU and not torch.cuda.is_available():
                print(f"\n== {name}: no GPU here", flush=True)
                continue
            print(f"\n== {name}", flush=True)
            lines = Path(folder) / name
            lines.touch()
            sizes = SCRIPTS[name] if chosen.full or name == OF_GPU else ()
            command = [sys.executable, str(HERE / name), *sizes]
            environment = {**os.environ, GATHERED: str(lines)}
            if subprocess.run(command, check=False, env=environment).returncode:
                failed.append(name)
            figures += [(name, figure) for figure in gathered(lines)]
    print(f"\n{table(figures)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
