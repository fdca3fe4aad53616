"""The organisers' files in every layout: emotion words, and CSV tables keyed by clip name."""

import csv
from pathlib import Path

from mer_store.errors import UsageError

#: The organisers' words for the classes, and the paper's.
CLASS_OF_WORD = {
    "neutral": "neutral",
    "angry": "anger",
    "happy": "happiness",
    "sad": "sadness",
    "worried": "worry",
    "surprise": "surprise",
}
WORD_OF_CLASS = {name: word for word, name in CLASS_OF_WORD.items()}
#: The paper's classes, in the order of the official label files.
CLASSES = tuple(WORD_OF_CLASS)


def read_column(path: Path, column: str, key: str = "name") -> dict[str, str]:
    """Read one column of a CSV file by clip name.

    Raises
    ------
    UsageError
        It cannot be read, is not UTF-8, or a column is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            if missing := {key, column} - set(names):
                raise UsageError(
                    f"{path}:1: expected the column {min(missing)}; got {', '.join(names)}"
                )
            return {row[key]: row[column] or "" for row in reader if row[key]}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not a CSV file in UTF-8: {error}") from error


def count_note(what: str, names: list[str]) -> list[str]:
    """Return a note such as ``12 clips without a transcript, e.g. sample_1``, none for no names."""
    return [f"{len(names):,} {what}, e.g. {min(names)}"] if names else []
