"""MERTools' files beside the features: ``label-6way.npz`` and ``transcription-merge.csv``."""

import csv
import io
import pickle
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from mer_store.clips.clip import Clip
from mer_store.clips.corpus_npz import read_corpora
from mer_store.clips.words import CLASS_OF_WORD, WORD_OF_CLASS, count_note, read_column
from mer_store.errors import UsageError

#: What clips without a label carry.
NO_LABEL = "neutral"
TRAIN, TEST = "train_corpus", "test1_corpus"
Corpus = dict[str, dict[str, str]]

# Protocol 3: Python 3.8 reads it, and names stand in it as lines of text, so that one can be exchanged.
_PROTOCOL = 3
_NEW_NAME, _OLD_NAME = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"


def make_corpora(clips: Iterable[Clip]) -> tuple[dict[str, Corpus], list[str]]:
    """Sort clips into the corpora, in the order of the list, which is all that links predictions to names.

    Returns
    -------
    corpora
        ``train_corpus``: labelled by people, and not in the test set. ``test1_corpus``: all others, with
        ``neutral`` where there is no label.
    notes
        What was left out: labelled clips whose word is none of the six.
    """
    corpora: dict[str, Corpus] = {TRAIN: {}, TEST: {}}
    odd = []
    for clip in clips:
        told = clip.label if clip.confidence is None else None  # a predicted label is none
        word = WORD_OF_CLASS.get(CLASS_OF_WORD.get(told, told)) if told else None
        if clip.split == "labelled" or (told and clip.split != "test"):
            if word:
                corpora[TRAIN][clip.clip_id] = {"emo": word}
            else:
                odd.append(clip.clip_id)
        else:
            corpora[TEST][clip.clip_id] = {"emo": word or NO_LABEL}
    return corpora, count_note("labelled clips without one of the six words, left out", odd)


def corpora_bytes(corpora: dict[str, Corpus]) -> bytes:
    """Return a ``.npz`` file that NumPy 1 and 2 read with ``allow_pickle``: equal corpora, equal bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, corpus in corpora.items():
            info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, _member(corpus))
    return file.getvalue()


def has_corpora(path: Path, corpora: dict[str, Corpus]) -> bool:
    """Tell whether a file says the same of the same clips in the same order, whoever wrote it."""
    try:
        there = read_corpora(path)
    except UsageError:
        return False
    return all(
        [(clip_id, values.get("emo")) for clip_id, values in there.get(name, {}).items()]
        == [(clip_id, values["emo"]) for clip_id, values in corpus.items()]
        for name, corpus in corpora.items()
    )


def has_transcripts(path: Path, clips: Sequence[Clip]) -> bool:
    """Tell whether a file has the same texts of the same clips, whatever other columns it has."""
    try:
        there = read_column(path, "chinese")
    except UsageError:
        return False
    return there == {clip.clip_id: clip.text for clip in clips if clip.text is not None}


def _member(corpus: Corpus) -> bytes:
    array: np.ndarray[Any, Any] = np.empty((), dtype=object)
    array[()] = corpus
    pickled = pickle.dumps(array, protocol=_PROTOCOL)
    # NumPy 1 knows its own module by the old name only. The array around the corpus names it, in front.
    pickled = pickled.replace(_NEW_NAME, _OLD_NAME, 1)
    file = io.BytesIO()
    npy_format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    file.write(pickled)
    return file.getvalue()


def transcripts_bytes(clips: Sequence[Clip]) -> bytes | None:
    """Return a CSV file ``name,chinese``, an empty cell for no speech; None where no clip has a text."""
    told = [clip for clip in clips if clip.text is not None]
    if not told:
        return None
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", "chinese"])
    writer.writerows([clip.clip_id, clip.text] for clip in told)
    return file.getvalue().encode()
