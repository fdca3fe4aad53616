"""A dataset as MERTools processes it, to a clip list."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mer_store.clips.clip_list import Clip, ClipList, collect_clips, require_folder
from mer_store.clips.corpus_npz import read_corpora
from mer_store.clips.mer2024 import paper_word, scan_media
from mer_store.clips.words import count_note, read_column

LABELS = "label-6way.npz"
TRANSCRIPTS = "transcription-merge.csv"


def from_mertools(folder: Path | str) -> ClipList:
    """List the clips of ``mer2024-dataset-process/`` and its likes.

    A clip is its file in ``video/``, else the one in ``audio/``. ``train_corpus`` of ``label-6way.npz`` is
    ``labelled``. In the other corpora every clip carries ``neutral`` where labels are held back: such a
    corpus is ``unlabelled``, one with real labels is ``test``.

    Raises
    ------
    UsageError
        There is no such folder, or its label or transcript file cannot be read.
    """
    folder = Path(folder)
    require_folder(folder, f"MERTools' folder, with video, audio, {TRANSCRIPTS}, {LABELS}")
    files = dict(scan_media(folder / "audio")) | dict(scan_media(folder / "video"))
    notes: list[str] = []
    facts = _read_facts(folder / LABELS, notes)
    texts: dict[str, str] = {}
    if (folder / TRANSCRIPTS).exists():
        texts = read_column(folder / TRANSCRIPTS, "chinese")
    else:
        notes.append(f"{folder / TRANSCRIPTS}: not there: no transcripts")
    names = [*facts, *(name for name in files if name not in facts)]
    clips = [
        Clip(
            name,
            files.get(name),
            texts.get(name, "") if texts else None,
            *facts.get(name, (None, None)),
        )
        for name in names
    ]
    notes += count_note(f"clips of {LABELS} without a file", [n for n in facts if n not in files])
    notes += count_note(f"files without an entry in {LABELS}", [n for n in files if n not in facts])
    if texts:
        untold = [name for name in names if name not in texts]
        notes += count_note(
            f"clips without a row in {TRANSCRIPTS}, taken as without speech", untold
        )
    return collect_clips(clips, notes)


def _read_facts(path: Path, notes: list[str]) -> dict[str, tuple[str | None, str]]:
    """Return (label, split) of each clip, in the order of the corpora."""
    if not path.exists():
        notes.append(f"{path}: not there: no labels")
        return {}
    facts: dict[str, tuple[str | None, str]] = {}
    for corpus, clips in read_corpora(path).items():
        words = {name: _word(values) for name, values in clips.items()}
        split = "labelled" if corpus == "train_corpus" else "test"
        if split == "test" and set(words.values()) <= {"neutral", None}:
            split, words = "unlabelled", dict.fromkeys(words)
        facts |= {name: (paper_word(word), split) for name, word in words.items()}
    return facts


def _word(values: Mapping[str, Any]) -> str | None:
    word = values.get("emo")
    return word if isinstance(word, str) and word else None
