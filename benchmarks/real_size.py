"""A planted store of MER2024's size, made once in a folder and used by several benchmarks."""

from pathlib import Path

from pipelines.planted.settings import PlantedSettings
from pipelines.planted.write import Planted, make_planted

N_LABELLED, N_UNLABELLED = 5030, 115_595
WIDTHS = {"audio": 1024, "visual": 768, "text": 5120}


def real_size_store(folder: Path, scale: float, part_clips: int = 16384) -> Planted:
    """Make it, or find it made; `scale` shrinks the number of clips."""
    n_unlabelled = round(N_UNLABELLED * scale)
    settings = PlantedSettings(
        n_labelled=round(N_LABELLED * scale), n_unlabelled=n_unlabelled, n_test=n_unlabelled // 100,
        show_test_labels=True, frames=False, summed=False, audio_layers=(18,), text_layers=(40,),
        audio_width=WIDTHS["audio"], visual_width=WIDTHS["visual"], text_width=WIDTHS["text"],
        part_clips=part_clips,
    )  # fmt: skip
    return make_planted(folder, settings)
