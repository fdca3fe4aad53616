"""All that a reader is told and given by a feature set, to be compared before and after."""

from mer_store.store.ledger import Status
from mer_store.store.store import Store


def view(path, clip_ids, layers, tables=("images",)):
    """Open the store anew; return what is known of each clip, values and their types included."""
    (feature_set,) = Store.open(path).feature_sets()
    ledger = feature_set.ledger(clip_ids)
    status = ledger.of_layers(layers)
    found = {}
    for row, clip_id in enumerate(clip_ids):
        rows = {}
        for layer, there in zip(layers, status[row], strict=True):
            if there == Status.OK:
                (values,) = feature_set.ragged([layer], [clip_id])
                rows[layer] = (values.dtype.name, values.shape, values.tobytes())
        for table in tables:
            if feature_set.index.find([clip_id])[0] >= 0 and has_table(feature_set, table, clip_id):
                (columns,) = feature_set.table(table, [clip_id])
                rows[table] = {n: (v.dtype.name, v.tobytes()) for n, v in columns.items()}
        found[clip_id] = (
            Status(int(ledger.status[row])).name,
            [Status(int(s)).name for s in status[row]],
            ledger.digest[row],
            int(ledger.n_bytes[row]),
            int(ledger.mtime_ns[row]),
            int(ledger.attempt[row]),
            ledger.reasons[row],
            rows,
        )
    return found


def has_table(feature_set, table, clip_id):
    index = feature_set.index
    return index.column(f"{table}/")[index.find([clip_id])[0]] >= 0
