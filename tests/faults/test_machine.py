"""Two stores and a remote through any sequence of commands, crashes and damage, held against a model."""

import shutil
import tempfile
from pathlib import Path
from random import Random

import pytest
from faults import disks
from faults.injector import KILLED, Injector
from faults.length import LIMIT_S, LONG, fast_folder
from faults.model import CLIPS, LAYERS, SPEC, Part, Row, merged, told
from faults.points import end_of, start_child
from faults.world import litter, objects
from fsspec.registry import _registry
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mer_store.remote.address import Address
from mer_store.remote.selection import Selection
from mer_store.remote.transfer import Transfer
from mer_store.store.compact import compact
from mer_store.store.prune import prune
from mer_store.store.repair import repair
from mer_store.store.store import Store
from mer_store.store.verify import verify

STORES = st.sampled_from(["one", "two"])
SEEDS = st.integers(0, 4)
ROWS = st.one_of(
    st.builds(Row, st.just("ok"), SEEDS),
    st.builds(Row, st.just("empty"), SEEDS),
    st.builds(Row, st.just("failed"), st.one_of(st.none(), SEEDS)),
)
PARTS = st.builds(
    Part,
    attempt=st.integers(0, 2),
    layers=st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3, unique=True).map(
        lambda layers: tuple(sorted(layers))
    ),
    rows=st.dictionaries(st.sampled_from(CLIPS), ROWS, min_size=1),
)


class Stores(RuleBasedStateMachine):
    """Model: of each store, part id -> what was committed."""

    @initialize(kind=st.sampled_from(["folder", "gs"]))
    def begin(self, kind):
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        self.there = self.root / "there"
        self.remote = str(self.there) if kind == "folder" else f"{kind}://{self.there}"
        self.is_folder = kind == "folder"
        self.model = {"one": {}, "two": {}, "there": {}}
        for name in ("one", "two"):
            Store.create(self.root / name).ensure(SPEC)

    def teardown(self):
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def feature_set(self, name):
        return Store.open(self.root / name).features("audio")

    def places(self):
        """Name the places that are stores on disk."""
        there = ["there"] if self.is_folder and self.model["there"] else []
        return ["one", "two", *there]

    # ---- writing -----------------------------------------------------------------------------------

    @rule(name=STORES, part=PARTS)
    def extract(self, name, part):
        part_id = part.write(self.feature_set(name))
        self.model[name].setdefault(part_id, part)

    @rule(name=STORES, part=PARTS, at=st.integers(1, 130), after=st.booleans())
    def crash(self, name, part, at, after):
        def work():
            Injector("killed after" if after else "killed before", at).install()
            return part.write(self.feature_set(name))

        code, told_id = end_of(start_child(work))
        assert code in (0, KILLED), told_id
        Store.open(self.root / name).sweep()
        assert litter(self.root / name) == []
        now = {record.part_id: Part.of(record) for record in self.feature_set(name).records()}
        assert self.model[name].items() <= now.items()
        new = [now[part_id] for part_id in now.keys() - self.model[name].keys()]
        assert new in ([], [part])
        assert code == KILLED or told_id in now
        self.model[name] = now

    # ---- moving ------------------------------------------------------------------------------------

    def move(self, direction, name, **selection):
        with Transfer() as transfer:
            address = Address.parse(self.remote)
            _, moved = direction(
                transfer, Store.open(self.root / name), address, Selection(**selection)
            )
        assert moved.problems == ()

    @rule(name=STORES)
    def push(self, name):
        self.move(Transfer.push, name)
        self.model["there"] = {**self.model[name], **self.model["there"]}

    @precondition(lambda self: self.model["there"])
    @rule(name=STORES)
    def pull(self, name):
        self.move(Transfer.pull, name)
        self.model[name] = {**self.model["there"], **self.model[name]}

    @precondition(lambda self: self.model["there"])
    @rule(name=STORES, layer=st.sampled_from(LAYERS), clips=st.sets(st.sampled_from(CLIPS)))
    def pull_a_piece(self, name, layer, clips):
        theirs = self.model["there"].values()
        if not any(layer in part.layers for part in theirs):
            return
        self.move(Transfer.pull, name, layers=str(layer), clip_ids=frozenset(clips) or None)
        self.take_new_parts(name, theirs)
        has = {
            (clip_id, row)
            for part in self.model[name].values()
            for clip_id, row in part.rows.items()
            if layer in part.layers
        }
        for part in theirs:
            for clip_id, row in part.rows.items():
                if layer in part.layers and row.status == "ok" and clip_id in (clips or CLIPS):
                    assert (clip_id, row) in has

    def take_new_parts(self, name, sources):
        """Enter parts that were made here into the model: each must be a piece of one of `sources`."""
        for record in self.feature_set(name).records():
            if record.part_id in self.model[name]:
                continue
            new = Part.of(record)
            assert any(
                new.attempt == part.attempt
                and set(new.layers) <= set(part.layers)
                and new.rows.items() <= part.rows.items()
                for part in sources
            )
            self.model[name][record.part_id] = new

    # ---- keeping house -----------------------------------------------------------------------------

    @rule(name=STORES)
    def compact(self, name):
        made = compact(Store.open(self.root / name), part_clips=100)
        assert not any(one.problem for one in made)
        records = self.feature_set(name).records()
        now = {record.part_id: Part.of(record) for record in records}
        assert self.model[name].items() <= now.items()
        assert merged(now) == merged(self.model[name])
        self.model[name] = now

    @rule(name=STORES)
    def prune(self, name):
        gone = prune(Store.open(self.root / name), yes=True, older_than_s=0)
        assert not any(one.refused for one in gone)
        part_ids = self.feature_set(name).part_ids()
        left = {part_id: self.model[name][part_id] for part_id in part_ids}
        assert merged(left) == merged(self.model[name])
        self.model[name] = left

    @precondition(lambda self: any(self.model[name] for name in self.places()))
    @rule(seed=st.integers(0, 2**16))
    def damage_and_repair(self, seed):
        random = Random(seed)
        name = random.choice([name for name in self.places() if self.model[name]])
        part_id = random.choice(sorted(self.model[name]))
        folder = self.root / name / "features" / "audio" / SPEC.name
        files = [p for p in (folder / "parts" / part_id).rglob("*") if p.is_file()]
        path = random.choice(sorted([*files, folder / "commits" / f"{part_id}.json"]))
        data = bytearray(path.read_bytes())
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.chmod(0o644)
        path.write_bytes(data if random.random() < 0.7 else data[: len(data) // 2])
        store = Store.open(self.root / name)
        findings = verify(store, deep=True)
        if json_says_the_same(path, findings):
            return
        assert {finding.part_id for finding in findings} == {part_id}
        moved = repair(store, findings)
        assert not any(one.refused for one in moved)
        left = set(self.feature_set(name).part_ids())
        assert self.model[name].keys() - {part_id} <= left
        if part_id not in left:
            del self.model[name][part_id]

    # ---- what must always be -----------------------------------------------------------------------

    @invariant()
    def stores_say_what_was_committed(self):
        for name in self.places() if hasattr(self, "root") else ():
            feature_set = self.feature_set(name)
            assert set(feature_set.part_ids()) == self.model[name].keys()
            assert told(feature_set) == merged(self.model[name])
            assert verify(Store.open(self.root / name), deep=True) == []
        if hasattr(self, "root") and not self.is_folder:
            listed = {part_id for _, part_id in objects(self.remote)}
            assert listed == self.model["there"].keys()


def json_says_the_same(path, findings):
    """Tell whether a record was damaged where it says nothing: at the newline that ends it."""
    return path.parent.name == "commits" and not findings


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
class TestStores(Stores.TestCase):
    """What pytest runs."""

    settings = settings(
        max_examples=300 if LONG else 15,
        stateful_step_count=30 if LONG else 12,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    @pytest.fixture(autouse=True)
    def _remotes_on_disk(self, monkeypatch):
        for protocol, kind in disks.PROTOCOLS.items():
            monkeypatch.setitem(_registry, protocol, kind)
        monkeypatch.setattr(tempfile, "tempdir", str(fast_folder()))
