"""The page of a store that is served: what there is, and the commands that fetch it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from mer_store.errors import MerStoreError
from mer_store.layers import Layer, describe_layers
from mer_store.spec import Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.store import Store
from mer_store.store.summary import Summary, summarise
from pipelines.report.html import (
    Cell,
    Markup,
    Number,
    cards,
    code,
    document,
    note,
    section,
    table,
    tag,
    text,
)
from pipelines.report.shapes import OUTCOMES, bars

SHOWN = {name: colour for name, colour in OUTCOMES.items() if name != "missing"}
STYLE = """
:root{color-scheme:light dark}
pre{user-select:all} td:first-child{white-space:nowrap}
@media (max-width:600px){body{margin:1rem auto} .bars{grid-template-columns:1fr;gap:.1rem}
.bar{margin-bottom:.6rem} .cards{gap:.6rem} .cards b{font-size:1.5rem}}
@media (prefers-color-scheme:dark){body{background:#12181f;color:#dbe3ea} a{color:#8ab8ea}
h2{border-color:#33404d} td,th{border-color:#2a3541} th,.note{color:#9fb0c0}
code,pre,.cards div{background:#1d2731} .cards b{color:#a9c7ec}}
"""


@dataclass(frozen=True)
class Held:
    """What is told of a feature set."""

    spec: Spec
    layers: tuple[Layer, ...]
    summary: Summary


class Page:
    """The page of a store.

    What it tells is counted anew only where the commits changed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._parts: list[tuple[str, ...]] | None = None
        self._held: list[Held] = []
        self._problems: list[str] = []

    def html(self, url: str) -> str:
        """Return the page; `url` is where the reader found it.

        Raises
        ------
        MerStoreError
            The store cannot be read at all.
        """
        with self._lock:
            self._look()
            held, problems = self._held, self._problems
        name = self._store.path.resolve().name
        sections = [
            f"<h1>{text(name)}</h1>",
            note("A feature store, to be read, not changed. What is committed now:"),
            _cards(held),
            *(f"<p>{tag('damaged')} {text(problem)}</p>" for problem in problems),
            section("Feature sets", *_feature_sets(held)),
            section("Fetch", *_commands(held, url)),
            section("By hand", *_by_hand()),
        ]
        return document(f"{name}: mer-store", sections, STYLE)

    def _look(self) -> None:
        every = self._store.feature_sets()
        parts = [(item.spec.modality, item.name, *item.part_ids()) for item in every]
        if parts == self._parts:
            return
        self._held, self._problems = [], []
        for item in every:
            try:
                self._held.append(Held(item.spec, item.layers, summarise(item)))
            except MerStoreError:
                self._problems.append(_problem(item))
        self._parts = parts


def _problem(item: FeatureSet) -> str:
    return f"{item.spec.modality}/{item.name} cannot be read; its owner runs mer-store verify"


def _cards(held: Sequence[Held]) -> Markup:
    n_parts = sum(item.summary.n_parts for item in held)
    size = _size(sum(item.summary.n_bytes for item in held))
    sets = "feature set" if len(held) == 1 else "feature sets"
    parts = "part" if n_parts == 1 else "parts"
    return cards([(f"{len(held):,}", sets), (f"{n_parts:,}", parts), (size, "of features")])


def _feature_sets(held: Sequence[Held]) -> list[Markup]:
    if not held:
        return [note("The store is empty; fill it with `mer-store extract --modality audio`.")]
    rows: list[list[Cell]] = []
    for item in held:
        spec, summary = item.spec, item.summary
        mark = "" if spec.trained else f" {tag('untrained')}"
        rows.append(
            [
                spec.modality,
                Markup(f"{text(spec.model)}{mark}"),
                spec.level,
                describe_layers(item.layers),
                spec.recipe,
                *_counts(summary).values(),
                summary.n_parts,
                Number(_size(summary.n_bytes)),
                code(spec.fingerprint),
            ]
        )
    names = [f"{item.spec.modality} {item.spec.level} {item.spec.fingerprint[:4]}" for item in held]
    counts = [_counts(item.summary) for item in held]
    head = ["modality", "model", "level", "layers", "recipe", *SHOWN, "parts", "size"]
    return [
        bars(list(zip(names, counts, strict=True)), SHOWN),
        table([*head, "fingerprint"], rows),
    ]


def _counts(summary: Summary) -> dict[str, int]:
    return {"ok": summary.n_ok, "empty": summary.n_empty, "failed": summary.n_failed}


def _size(n_bytes: int) -> str:
    units = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
    unit = next((unit for unit, size in units.items() if n_bytes >= size), "KiB")
    return f"{n_bytes / units[unit]:,.1f} {unit}"


def _commands(held: Sequence[Held], url: str) -> list[Markup]:
    """Return what to type; all that comes from the store is quoted for the shell or for Python."""
    pull = f"mer-store pull {shlex.quote(url)}"
    found = [note("Everything that the store of your working folder lacks:"), _typed(pull)]
    with_layers = [item for item in held if item.layers]
    if not with_layers:
        return found
    shown = max(with_layers, key=lambda item: item.spec.level == "utterance")
    spec, layers = shown.spec, shown.layers
    layer = layers[len(layers) // 2]
    one_layer = (
        f"{pull} \\\n    --modality {spec.modality} --level {spec.level} \\\n"
        f"    --model {shlex.quote(spec.model)} --layers {shlex.quote(str(layer))}"
    )
    reading = "read" if spec.level == "utterance" else "ragged"
    python = (
        f"import mer_store\n"
        f"store = mer_store.open({url!r})\n"
        f"features = store.features({spec.modality!r}, fingerprint={spec.fingerprint!r})\n"
        f"x = features.{reading}(layers=[{layer!r}])"
    )
    return [
        *found,
        note("One layer only:"),
        _typed(one_layer),
        note("In Python, without a copy of it all:"),
        _typed(python),
    ]


def _by_hand() -> list[Markup]:
    """Return what lies where, for those who have no mer-store."""
    rows: list[list[Cell]] = [
        ["all parts", code("/index.json")],
        ["what decides the numbers", code("/features/MODALITY/NAME/spec.json")],
        ["a part: clips, layers, files", code("/features/MODALITY/NAME/commits/PART.json")],
        ["a file of it, or a range", code("/features/MODALITY/NAME/parts/PART.DIGITS/FILE")],
    ]
    remark = (
        "NAME and PART are as the index says; DIGITS are the first 16 of the SHA-256 that the part's record "
        "gives for its `zarr.json`."
    )
    return [table(["what", "where"], rows), note(remark)]


def _typed(words: str) -> Markup:
    return Markup(f"<pre>{text(words)}</pre>")
