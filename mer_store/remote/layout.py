"""Where things lie on a remote.

As in a store on disk, but for the folder of a part's data. An object store has no rename that would make a
folder appear whole, and two members may have made the same part with other bytes (other hardware, another
time of a file). So the folder's name holds a digest of what is in it: files of two such parts never mix.
The commit record, written last under the part's id alone, says which folder is meant. Should two members
write it at the same moment on a remote without conditional writes, the later one stays, and is as true.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mer_store.errors import StoreDamagedError
from mer_store.spec import MODALITIES
from mer_store.store.commit import GROUP_FILE
from mer_store.store.layout import FORMAT, PART_ID, SPEC_FILE, STORE_FILE
from mer_store.store.plain_file import is_safe_name
from mer_store.store.record import CommitRecord
from mer_store.strict_json import parse

INDEX_FILE = "index.json"
#: 40 bytes a part: a size that no honest list has.
MAX_INDEX_BYTES = 1 << 28
N_DIGITS = 16

SetKey = tuple[str, str]
"""(modality, name) of a feature set."""
Listing = dict[SetKey, frozenset[str]]
"""Parts that are committed, by feature set."""

__all__ = ["SPEC_FILE", "STORE_FILE"]


def set_folder(key: SetKey) -> str:
    """Return the folder of a feature set."""
    return f"features/{key[0]}/{key[1]}"


def spec_path(key: SetKey) -> str:
    """Return where a feature set's spec lies."""
    return f"{set_folder(key)}/{SPEC_FILE}"


def commits_folder(key: SetKey) -> str:
    """Return the folder of commit records."""
    return f"{set_folder(key)}/commits"


def commit_path(key: SetKey, part_id: str) -> str:
    """Return where a commit record lies."""
    return f"{commits_folder(key)}/{part_id}.json"


def data_folder(key: SetKey, record: CommitRecord) -> str:
    """Return the folder of a part's files.

    Raises
    ------
    StoreDamagedError
        The record does not name the part's own ``zarr.json``.
    """
    facts = record.files.get(GROUP_FILE)
    if facts is None:
        raise StoreDamagedError(f"part {record.part_id}: its record does not name {GROUP_FILE}")
    return f"{set_folder(key)}/parts/{record.part_id}.{facts.sha256[:N_DIGITS]}"


def is_set_key(modality: object, name: object) -> bool:
    """Tell whether two texts can be a feature set's folders."""
    return modality in MODALITIES and isinstance(name, str) and is_safe_name(name)


def store_text() -> bytes:
    """Return the text of ``store.json``."""
    return (json.dumps({"format": FORMAT}) + "\n").encode()


def index_text(listing: Mapping[SetKey, Sequence[str] | frozenset[str]]) -> bytes:
    """Return the text of the index object, for those who cannot list."""
    sets = [
        {"modality": modality, "name": name, "parts": sorted(parts)}
        for (modality, name), parts in sorted(listing.items())
    ]
    return (json.dumps({"format": FORMAT, "feature_sets": sets}) + "\n").encode()


def read_index(text: bytes, where: str) -> Listing:
    """Read what `index_text` wrote.

    Raises
    ------
    StoreDamagedError
        It is something else.
    """
    try:
        values: Any = parse(text)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}")
        listing: Listing = {}
        for entry in values["feature_sets"]:
            key = (entry["modality"], entry["name"])
            if not is_set_key(*key) or not all(map(is_part_id, entry["parts"])):
                raise ValueError(f"an entry {str(key)[:80]}")
            listing[key] = frozenset(entry["parts"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreDamagedError(f"{where}: not an index of a store: {error}") from error
    return listing


def is_part_id(text: object) -> bool:
    """Tell whether a text can be a part's id."""
    return isinstance(text, str) and PART_ID.fullmatch(text) is not None
