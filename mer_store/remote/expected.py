"""What files a part from elsewhere may have, known from its record before a byte of them is fetched."""

from mer_store.errors import StoreDamagedError
from mer_store.store.commit import GROUP_FILE
from mer_store.store.metadata import member_metadata
from mer_store.store.record import CommitRecord
from mer_store.store.shard import shard_path

#: A ``zarr.json`` of a part holds its record; that of an array a few hundred bytes.
MAX_GROUP_BYTES = 1 << 28
MAX_MEMBER_BYTES = 1 << 16


def check_files(record: CommitRecord, where: str) -> None:
    """Refuse a part with other files than its arrays need, or of other sizes.

    Raises
    ------
    StoreDamagedError
        The message names the file, what was expected and what the record states.
    """
    shards = {}
    for name, info in record.arrays.items():
        if info.chunk_rows is None:
            raise StoreDamagedError(
                f"{where}: array {name} is no regular shard; such a part cannot be shared. Copy its folder "
                f"by hand if you trust it"
            )
        if info.n_rows:
            shards[shard_path(name, info)] = info.shard_bytes
    texts = {f"{name}/{GROUP_FILE}" for name in member_metadata(record.arrays)} | {GROUP_FILE}
    expected = texts | shards.keys()
    if record.files.keys() != expected:
        differing = sorted(record.files.keys() ^ expected)
        raise StoreDamagedError(f"{where}: missing or unexpected in its record: {differing[0]}")
    for path, facts in record.files.items():
        limit = MAX_GROUP_BYTES if path == GROUP_FILE else MAX_MEMBER_BYTES
        if path in shards and facts.n_bytes != shards[path]:
            raise StoreDamagedError(
                f"{where}: {path}: expected {shards[path]} bytes, its record states {facts.n_bytes}"
            )
        if path in texts and facts.n_bytes > limit:
            raise StoreDamagedError(
                f"{where}: {path}: expected at most {limit} bytes, its record states {facts.n_bytes}"
            )
