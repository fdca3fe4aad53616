"""MERTools' folder layout, written from a store: features, labels and transcripts."""

import sys
from collections import Counter
from pathlib import Path

from mer_store.clips.clip_list import ClipList
from mer_store.clips.mertools import LABELS, TRANSCRIPTS
from mer_store.errors import UsageError
from mer_store.layers import describe_layers
from mer_store.spec import MODALITIES
from mer_store.store.feature_set import FeatureSet
from mer_store.store.ledger import Status
from mer_store.store.store import Store
from pipelines.exchange.coverage import Coverage, named
from pipelines.exchange.mertools_folder import FeatureFolder, Written
from pipelines.exchange.mertools_labels import (
    TEST,
    TRAIN,
    corpora_bytes,
    has_corpora,
    has_transcripts,
    make_corpora,
    transcripts_bytes,
)
from pipelines.exchange.mertools_layout import FEATURES, RECIPES, folder_name, layers_to_write
from pipelines.exchange.new_file import Put, put_new
from pipelines.exchange.options import ExportOptions


def export_mertools(
    store: Store, clip_list: ClipList | None, to: Path, options: ExportOptions
) -> int:
    """Write ``features/<name>-UTT/<clip>.npy`` of each modality, and labels and transcripts of the list.

    Layers are summed after their mean over time, which changes MERTools' numbers by rounding alone (3e-7)
    where they are stored in float32; in float16 each of the four is off by 2^-11 of itself at most.
    Clips left out are listed on stdout.

    Returns
    -------
    int
        1 where a failed or missing clip was left out, or a file of other content was in the way, else 0.

    Raises
    ------
    UsageError
        No feature set or several fit, layers are missing, or clips are that the policy does not allow for:
        nothing was written.
    """
    modalities = _modalities(store, options)
    folders = [_plan(store, modality, clip_list, to, options) for modality in modalities]
    for folder in folders:
        folder.coverage.refuse(f"{folder.spec.modality}/{folder.spec.name}", options.policy)
        if options.policy == "zeros" and folder.coverage.ids(Status.EMPTY):
            folder.zeros()  # before anything is written
    puts: Counter[Put] = Counter()
    left_out: set[str] = set()
    n_lost = 0
    for folder in folders:
        _announce(folder)
        written = folder.write(zeros=options.policy == "zeros")
        _report(folder, written)
        puts += Counter({put: len(clip_ids) for put, clip_ids in written.puts.items()})
        for clip_id, what, reason in folder.coverage.holes() if options.policy == "skip" else ():
            sys.stdout.write(f"{folder.spec.modality}\t{clip_id}\t{what}\t{reason}\n")
            left_out.add(clip_id)
            n_lost += what != "empty"
    if clip_list is not None:
        puts += _write_lists(clip_list, left_out, to)
    if left_out:
        _say(f"{len(left_out)} clips left out, {n_lost} of them failed or not extracted")
    _say(f"{to}: " + ", ".join(f"{puts[put]} files {put.value}" for put in Put if puts[put]))
    return 1 if n_lost or puts[Put.DIFFERENT] else 0


def _modalities(store: Store, options: ExportOptions) -> list[str]:
    if options.modality:
        return [options.modality]
    if options.name or options.layers or options.fingerprint:
        raise UsageError("--name, --layers and --fingerprint are of one modality: give --modality")
    there = {feature_set.spec.modality for feature_set in store.feature_sets()}
    if not there:
        raise UsageError(f"{store.path}: no features to export; run `mer-store extract` first")
    return [modality for modality in MODALITIES if modality in there]


def _plan(
    store: Store, modality: str, clip_list: ClipList | None, to: Path, options: ExportOptions
) -> FeatureFolder:
    feature_set = _find(store, modality, options)
    layers = layers_to_write(feature_set, options.layers)
    if clip_list is None:
        ids = [clip_id for clip_id, _, _ in feature_set.outcomes()]
    else:
        ids = [clip.clip_id for clip in clip_list.clips]
    path = to / FEATURES / folder_name(feature_set.spec, options.name)
    return FeatureFolder(feature_set, layers, path, Coverage.of(feature_set, layers, ids))


def _find(store: Store, modality: str, options: ExportOptions) -> FeatureSet:
    """Return the feature set asked for; where the recipe is left open, one made for MERTools first."""
    wanted = {"level": options.level or "utterance", "model": options.model}
    if options.recipe is None and options.fingerprint is None:
        made = [
            feature_set
            for feature_set in store.feature_sets()
            if (feature_set.spec.modality, feature_set.spec.level) == (modality, wanted["level"])
            and options.model in (None, feature_set.spec.model)
            and feature_set.spec.recipe == RECIPES[0]
        ]
        if len(made) == 1:
            return made[0]
    return store.features(
        modality, recipe=options.recipe, fingerprint=options.fingerprint, **wanted
    )


def _announce(folder: FeatureFolder) -> None:
    spec, layers = folder.spec, describe_layers(folder.layers)
    summed = ", summed" if len(folder.layers) > 1 else ""
    _say(f"{folder.path}: {spec.modality}/{spec.name}, layers {layers}{summed}")
    if spec.recipe not in RECIPES:
        _say(
            f"  recipe {spec.recipe}: close to MERTools' numbers, not the same (long clips, silence, faces); "
            f"for those run `mer-store extract --modality {spec.modality} --recipe {RECIPES[0]}`"
        )


def _report(folder: FeatureFolder, written: Written) -> None:
    if written.zeros:
        _say(f"  zeros for {named(written.zeros)}: empty")
    if written.wide:
        _say(f"  float32 for {named(written.wide)}: float16 does not hold the values")
    if different := written.puts[Put.DIFFERENT]:
        _say(
            f"  {folder.path}: left as they are: {named(different)}: files of other content are there. "
            f"Remove them, or choose another --to or --name"
        )


def _write_lists(clip_list: ClipList, left_out: set[str], to: Path) -> Counter[Put]:
    """Write labels and transcripts of the clips that all folders have: a missing file ends MERTools' run."""
    clips = [clip for clip in clip_list.clips if clip.clip_id not in left_out]
    files: dict[str, tuple[bytes, bool]] = {}
    if any(clip.label or clip.split for clip in clips):
        corpora, notes = make_corpora(clips)
        files[LABELS] = corpora_bytes(corpora), has_corpora(to / LABELS, corpora)
        counts = f"{len(corpora[TRAIN])} in {TRAIN}, {len(corpora[TEST])} in {TEST}"
        _say("; ".join([f"{to / LABELS}: {counts}", *notes]))
    if (transcripts := transcripts_bytes(clips)) is not None:
        files[TRANSCRIPTS] = transcripts, has_transcripts(to / TRANSCRIPTS, clips)
    puts: Counter[Put] = Counter()
    for name, (data, is_there) in files.items():
        put = Put.KEPT if is_there else put_new(to / name, data)
        puts[put] += 1
        if put is Put.DIFFERENT:
            _say(
                f"{to / name}: left as it is: it says other things. Export all modalities in one command, "
                f"or remove it, or choose another --to"
            )
    return puts


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
