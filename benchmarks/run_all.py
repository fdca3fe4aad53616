"""Run every benchmark, one after the other: `make bench`. Each prints ratios to a baseline of its own run."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ORDER = (
    "storage.py",
    "decoding.py",
    "clips.py",
    "nothing_to_do.py",
    "audio_model.py",
    "text_model.py",
    "extract_audio.py",
    "loading.py",
    "verify.py",
    "sharing.py",
    "fusion_launch.py",
)


def main() -> None:
    """Run them in order; go on after one that fails, and say so at the end."""
    failed = []
    for name in ORDER:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / name)], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
