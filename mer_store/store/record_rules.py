"""What a commit record may say: the kinds of its values, its caps, and how its pieces must fit each other.

A record may come from anyone. What it claims decides how much memory reading takes, so every claim is held
against a cap or against the sizes of the files that it names.
"""

import reprlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

from mer_store.layers import Layer, layer_from_name, sort_layers
from mer_store.store.clip_checks import CLIP_CHECKS
from mer_store.store.layout import PART_ID
from mer_store.store.plain_file import is_part_name, is_safe_path
from mer_store.store.shard import ArrayInfo, shard_path

if TYPE_CHECKING:
    from mer_store.store.record import CommitRecord

OFFSETS = "offsets"
#: Rows or bytes something may claim: far above any part, far below what would overflow a size.
MAX_ROWS = 1 << 40
#: The whole corpus of MER2024 (115,595 clips) may be one part.
MAX_CLIPS = 1 << 17
MAX_ARRAYS = 1 << 10
MAX_FILES = 1 << 16
#: Chunks of an array: at 256 rows of 1,024 float16 numbers, 2 TiB.
MAX_CHUNKS = 1 << 22
MAX_CHUNK_BYTES = 1 << 30
#: An array that is compressed may unpack to so many bytes, or to so many times its files if that is more.
MAX_UNPACKED_BYTES = 1 << 28
MAX_UNPACKED_TIMES = 100
LAYER_DTYPES = ("float16", "float32", "uint8")
_MAX_LINE_CHARS = 1000


def refuse(text: str) -> NoReturn:
    """Raise what becomes "not a valid commit record"."""
    raise ValueError(text)


def text_of(value: Any) -> str:
    """Return a text."""
    return value if isinstance(value, str) else refuse(f"expected text, got {reprlib.repr(value)}")


def line_of(value: Any, max_chars: int = _MAX_LINE_CHARS) -> str:
    """Return a line that can be shown on any terminal: no control characters, not too long."""
    line = text_of(value)
    if len(line) > max_chars or not line.isprintable():
        refuse(f"expected a line of at most {max_chars} printable characters: {reprlib.repr(line)}")
    return line


def count_of(value: Any, limit: int = MAX_ROWS) -> int:
    """Return a whole number from 0 on, below `limit`."""
    if type(value) is not int or not 0 <= value < limit:
        refuse(f"expected a count, got {reprlib.repr(value)}")
    return value


def items_of(value: Any) -> list[Any]:
    """Return a list."""
    return value if isinstance(value, list) else refuse(f"no list: {reprlib.repr(value)}")


def layer_of(name: Any) -> Layer:
    """Return the layer of a name that is written as we write it: not ``018``."""
    if not is_part_name(text_of(name)) or str(layer_from_name(name)) != name:
        refuse(f"layer {reprlib.repr(name)}")
    return layer_from_name(name)


def check_caps(values: dict[str, Any]) -> None:
    """Refuse a record of too many things before any of them is looked at."""
    for what, limit in (("ledger", MAX_CLIPS), ("arrays", MAX_ARRAYS), ("files", MAX_FILES)):
        if len(values[what]) > limit:
            refuse(f"{what}: {len(values[what])} entries, more than {limit}")


def check(record: "CommitRecord") -> None:
    """Refuse a record whose pieces do not fit each other."""
    if not PART_ID.fullmatch(record.part_id):
        refuse(f"part_id {reprlib.repr(record.part_id)}")
    if len(set([row.clip_id for row in record.ledger])) != len(record.ledger):  # noqa: C403
        refuse("a clip has two ledger rows")
    for path in (*record.arrays, *record.files):
        if not is_safe_path(path):
            refuse(f"{reprlib.repr(path)} leaves the part")
    if not record.layers or record.layers != sort_layers(record.layers):
        refuse(f"layers {record.layers}: expected some, each once, in order")
    _check_layers(record)
    _check_offsets(record)
    n_stored = Counter[str]()
    for path, facts in record.files.items():
        n_stored[path.partition("/c/")[0]] += facts.n_bytes
    for name, info in record.arrays.items():
        if info.chunk_rows is None:
            _check_unpacked(name, info, n_stored[name])
        else:
            _check_shard(name, info, record)


def _check_layers(record: "CommitRecord") -> None:
    n_rows = record.n_rows
    for layer in record.layers if record.clip_ids else ():
        info = record.arrays[str(layer)]
        if info.n_rows != n_rows or len(info.shape) != 2:
            refuse(f"layer {layer} has shape {info.shape}, the ledger {n_rows} rows")
        if info.dtype not in LAYER_DTYPES:
            refuse(f"layer {layer} has dtype {info.dtype}, expected one of {LAYER_DTYPES}")
    checks = record.arrays.get(CLIP_CHECKS)
    shape = (len(record.clip_ids), len(record.layers))
    if checks is not None and (checks.shape, checks.dtype) != (shape, "uint32"):
        refuse(f"{CLIP_CHECKS} is {checks.dtype} {checks.shape}, expected uint32 {shape}")


def _check_offsets(record: "CommitRecord") -> None:
    """Check that the part and each table say where clips' rows start, and that columns are of one length."""
    shape = (len(record.clip_ids) + 1,)
    for table in ("", *record.tables):
        prefix = f"{table}/" if table else ""
        offsets = record.arrays[prefix + OFFSETS]
        if (offsets.shape, offsets.dtype) != (shape, "int64"):
            refuse(f"{prefix}{OFFSETS} is {offsets.dtype} {offsets.shape}, expected int64 {shape}")
        columns = {
            info.n_rows
            for name, info in record.arrays.items()
            if table and name.startswith(prefix) and name != prefix + OFFSETS
        }
        if len(columns) > 1:
            refuse(f"columns of table {table} differ in length: {sorted(columns)}")


def _check_unpacked(name: str, info: ArrayInfo, n_stored: int) -> None:
    """Hold the size of an array that another program wrote against its files."""
    if info.n_rows * info.row_bytes > max(MAX_UNPACKED_BYTES, MAX_UNPACKED_TIMES * n_stored):
        refuse(f"array {name} would unpack from {n_stored} bytes to shape {info.shape}")


def _check_shard(name: str, info: ArrayInfo, record: "CommitRecord") -> None:
    """Hold the size of an array that is one shard against its file, which follows from it."""
    if info.n_chunks > MAX_CHUNKS or info.chunk_bytes > MAX_CHUNK_BYTES:
        refuse(f"array {name}: {info.n_chunks} chunks of {info.chunk_bytes} bytes")
    if info.n_rows:
        n_bytes = record.files[shard_path(name, info)].n_bytes
        if n_bytes != info.shard_bytes:
            refuse(f"array {name} takes {info.shard_bytes} bytes, its file has {n_bytes}")
