"""Parquet: one row a clip, for pandas, polars and whatever else reads Arrow."""

import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from mer_store.clips.clip_list import ClipList
from mer_store.errors import UsageError
from mer_store.store.store import Store
from pipelines.exchange.chosen import (
    Chosen,
    choose_layers,
    choose_sets,
    refuse_options,
    say_chosen,
)
from pipelines.exchange.options import ExportOptions
from pipelines.exchange.whole_file import refuse_taken, whole_file
from pipelines.lines import line_options


def export_parquet(
    store: Store, clip_list: ClipList | None, to: Path, options: ExportOptions
) -> int:
    """Write one feature set: ``clip_id``, ``status``, ``reason``, and ``layer_<layer>`` for each layer.

    In a layer's column a clip has D float32 numbers at utterance level, a list of such at frame level, and
    null where it has not that layer. The spec is in the file's metadata, under ``mer_store_spec``. Clips are
    in the order they have on disk, read and written a row group at a time.

    Returns
    -------
    int
        1 where a listed clip was never extracted, else 0.

    Raises
    ------
    UsageError
        pyarrow is not installed, none or several feature sets fit, a layer is not there, or there is a file
        at `to`.
    StoreDamagedError
        Bytes of the store are missing or wrong. No file is left.
    """
    try:
        from pipelines.exchange.arrow_rows import Rows, write_tables
    except ImportError as error:
        raise UsageError(
            f"--format parquet needs pyarrow: pip install 'mer-store[arrow]' ({error})"
        ) from error
    refuse_options(options, "parquet")
    refuse_taken(to)
    chosen = _choose(store, clip_list, options)
    n_clips = len(chosen.ledger.clip_ids)
    with (
        whole_file(to) as temporary,
        tqdm(total=n_clips, desc=to.name, unit=" clips", **line_options(sys.stderr)) as bar,
    ):
        for n_written in write_tables(temporary, Rows(chosen)):
            bar.update(n_written)
    say_chosen(chosen)
    return int(chosen.n_missing > 0)


def _choose(store: Store, clip_list: ClipList | None, options: ExportOptions) -> Chosen:
    if options.level is None and options.fingerprint is None:
        options = replace(options, level="utterance")
    found = choose_sets(store, options)
    if len(found) > 1:
        listed = "".join(
            f"\n  {one.spec.modality}/{one.name}: recipe {one.spec.recipe}" for one in found
        )
        raise UsageError(
            f"{store.path}: one file holds one feature set; choose by --modality, --level, --model, "
            f"--recipe or --fingerprint. There is:{listed}"
        )
    [feature_set] = found
    return Chosen.of(feature_set, choose_layers(feature_set, options.layers), clip_list)
