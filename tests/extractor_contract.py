"""The contract every extractor keeps: a new one is done when its subclass of `ExtractorContract` passes."""

import hashlib
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest

from extractors.contract import ClipEmpty, ClipFailed, ClipProblem, Loaded, Want
from extractors.table import build_extractor
from mer_store.layers import sort_layers
from mer_store.spec import MODALITIES, Spec

ROUNDING = 2e-5
"""Relative: float32 sums in another order."""


def relative(got, expected):
    """Largest difference, in units of the expected array's root mean square."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    return np.abs(got - expected).max() / max(np.sqrt((expected**2).mean()), 1e-12)


def assert_same_states(got, expected, within=ROUNDING):
    """Both levels of two clips' states hold the same layers and, to rounding, the same numbers."""
    for level in ("utterance", "frame"):
        mine, theirs = getattr(got, level), getattr(expected, level)
        assert list(mine) == list(theirs)
        for layer in mine:
            assert relative(mine[layer], theirs[layer]) <= within, (level, layer)


def distance(got, expected):
    """Largest difference of a row, in units of its own length."""
    return max(
        float((np.linalg.norm(row - other, axis=-1) / np.linalg.norm(other, axis=-1)).max())
        for level in ("utterance", "frame")
        for row, other in zip(
            getattr(got, level).values(), getattr(expected, level).values(), strict=True
        )
    )


class ExtractorContract:
    """Subclass as ``class TestX(ExtractorContract)``, set `request_`, and write the sources.

    `write_sources` gives at least three good clips of different sizes; the others a clip of the kind they
    name, or None where the modality has no such thing.
    """

    request_ = None
    """The ExtractorRequest under test: float32 on the CPU."""

    @classmethod
    def write_sources(cls, folder):
        raise NotImplementedError

    @classmethod
    def write_empty(cls, folder):
        """Return a clip that has nothing to extract by nature."""
        raise NotImplementedError

    @classmethod
    def write_very_short(cls, folder):
        """Return the shortest clip there can be: it gives one row or more, or a reason."""
        raise NotImplementedError

    @classmethod
    def write_broken(cls, folder):
        """Return a clip whose bytes cannot be decoded."""
        raise NotImplementedError

    @classmethod
    def write_missing(cls, folder):
        """Return a clip whose file is not there."""
        raise NotImplementedError

    # What is computed once for all tests of a class.

    @pytest.fixture(scope="class")
    @classmethod
    def extractor(cls):
        return build_extractor(cls.request_)

    @pytest.fixture(scope="class")
    @classmethod
    def sources(cls, tmp_path_factory):
        sources = cls.write_sources(tmp_path_factory.mktemp("clips"))
        assert len(sources) >= 3
        return sources

    @pytest.fixture(scope="class")
    @classmethod
    def loaded(cls, extractor, sources):
        loaded = [extractor.load(extractor.open(source)) for source in sources]
        assert len({clip.size for clip in loaded}) >= 2, "write clips of different sizes"
        return loaded

    @pytest.fixture(scope="class")
    @classmethod
    def want(cls, extractor):
        layers = extractor.identity.layers
        return Want(utterance=layers, frame=layers)

    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, extractor, loaded, want):
        """Every clip's states at all layers, each computed in a batch of its own."""
        return [extractor([clip], want)[0] for clip in loaded]

    def run(self, extractor, loaded, want):
        """Call the model as the engine does: mixed sizes only where the extractor takes them."""
        if not extractor.equal_sizes:
            return extractor(loaded, want)
        return [states for clip in loaded for states in extractor([clip], want)]

    # The identity.

    def test_identity_is_a_spec_and_the_same_each_time(self, extractor):
        identity = extractor.identity
        assert identity == build_extractor(pickle.loads(pickle.dumps(self.request_))).identity  # noqa: S301
        shared = {
            key: value
            for key, value in asdict(identity).items()
            if key not in ("layers", "widths", "default_layers", "stored_dtype")
        }
        spec = Spec(level="utterance", stored_dtype="float32", **shared)
        assert Spec.from_json(spec.to_json()) == spec
        assert identity.modality == self.request_.modality
        assert identity.modality in MODALITIES
        assert identity.recipe == self.request_.recipe
        assert identity.weights.startswith("sha256:")
        assert len(identity.weights) == 71
        assert "device" not in json.dumps(shared)

    def test_layers_are_numbered_without_holes(self, extractor):
        identity = extractor.identity
        numbers = [layer for layer in identity.layers if isinstance(layer, int)]
        assert identity.layers == sort_layers(identity.layers)
        assert not numbers or numbers == list(range(numbers[0], numbers[-1] + 1))
        assert identity.default_layers
        assert set(identity.default_layers) <= set(identity.layers)
        assert tuple(identity.widths) == identity.layers
        assert extractor.batch_limit >= 1

    # Opening and loading.

    def test_opening_digests_the_bytes(self, extractor, sources):
        for source in sources:
            blob = extractor.open(source)
            assert blob.clip_id == source.clip_id
            path = extractor.path(source)
            if path is not None:
                data = path.read_bytes()
                assert blob.origin.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
                assert blob.origin.n_bytes == len(data)
                assert blob.origin.mtime_ns == path.stat().st_mtime_ns

    def test_loading_says_how_large_a_clip_is(self, loaded, sources):
        assert [clip.clip_id for clip in loaded] == [source.clip_id for source in sources]
        for clip in loaded:
            assert isinstance(clip, Loaded)
            assert clip.size >= 1
            assert clip.n_frames >= 1
            assert clip.media_s >= 0

    def test_loading_in_threads_gives_the_same(self, extractor, sources, alone, want):
        with ThreadPoolExecutor(4) as pool:
            loaded = list(pool.map(lambda source: extractor.load(extractor.open(source)), sources))
        for clip, expected in zip(loaded, alone, strict=True):
            assert_same_states(extractor([clip], want)[0], expected)

    # What comes out.

    def test_shapes_and_types(self, extractor, loaded, alone):
        identity = extractor.identity
        for clip, states in zip(loaded, alone, strict=True):
            assert tuple(states.utterance) == identity.layers
            assert tuple(states.frame) == identity.layers
            n_frames = {rows.shape[0] for rows in states.frame.values()}
            assert len(n_frames) == 1
            assert 1 <= n_frames.pop() <= clip.n_frames
            for layer in identity.layers:
                assert states.utterance[layer].shape == (identity.widths[layer],)
                assert states.frame[layer].shape[1:] == (identity.widths[layer],)
                for rows in (states.utterance[layer], states.frame[layer]):
                    assert rows.dtype == np.float32
                    assert np.isfinite(rows).all()
                    assert rows.base is None or rows.base.nbytes <= 2 * rows.nbytes, (
                        "keeps a batch alive"
                    )

    def test_layers_differ_from_each_other(self, extractor, alone):
        rows = [alone[0].utterance[layer] for layer in extractor.identity.layers]
        for i, row in enumerate(rows):
            for other in rows[:i]:
                assert row.shape != other.shape or relative(row, other) > 1e-4

    def test_utterance_is_the_mean_of_the_frames(self, extractor, alone):
        assert extractor.identity.pooling == "mean"
        for states in alone:
            for layer, row in states.utterance.items():
                assert relative(row, states.frame[layer].mean(axis=0, dtype=np.float64)) <= ROUNDING

    def test_only_what_is_wanted_comes_and_it_is_the_same(self, extractor, loaded, alone):
        layers = extractor.identity.layers
        first, last = layers[0], layers[-1]
        middle = layers[len(layers) // 2]
        for want in (
            Want(utterance=(last,)),
            Want(frame=(first,)),
            Want(utterance=sort_layers((first, middle)), frame=(middle,)),
        ):
            states = extractor([loaded[0]], want)[0]
            assert tuple(states.utterance) == want.utterance
            assert tuple(states.frame) == want.frame
            for layer, row in states.utterance.items():
                assert relative(row, alone[0].utterance[layer]) <= ROUNDING
            for layer, rows in states.frame.items():
                assert relative(rows, alone[0].frame[layer]) <= ROUNDING

    def test_the_same_again_bit_for_bit(self, extractor, loaded, want):
        again = build_extractor(self.request_)
        first, second = extractor([loaded[0]], want)[0], again([loaded[0]], want)[0]
        assert_same_states(first, second, within=0.0)

    def test_a_row_does_not_depend_on_its_batch(self, extractor, loaded, want, alone):
        for states, expected in zip(self.run(extractor, loaded, want), alone, strict=True):
            assert_same_states(states, expected)

    @pytest.mark.parametrize("n_clips", [2, 3, 7])
    def test_rows_are_those_of_a_clip_alone_in_any_order_and_batch_size(
        self, extractor, loaded, want, alone, n_clips
    ):
        rng = np.random.default_rng(n_clips)
        order = rng.permutation(np.tile(np.arange(len(loaded)), 2))
        for start in range(0, len(order), n_clips):
            chosen = order[start : start + n_clips]
            batch = [loaded[number] for number in chosen]
            for number, states in zip(chosen, self.run(extractor, batch, want), strict=True):
                assert_same_states(states, alone[number])
                assert distance(states, alone[number]) <= 1e-5

    def test_outcomes_come_in_the_order_of_the_batch(self, extractor, loaded, want, alone):
        backwards = self.run(extractor, loaded[::-1], want)
        for states, expected in zip(backwards, alone[::-1], strict=True):
            assert_same_states(states, expected)

    def test_an_empty_batch_gives_nothing(self, extractor, want):
        assert extractor([], want) == []

    def test_tables_have_columns_of_one_length(self, alone):
        for states in alone:
            for columns in states.tables.values():
                assert len({len(column) for column in columns.values()}) == 1

    # Clips without features.

    def outcome(self, extractor, source):
        """What becomes of one clip: its states or its problem, wherever that shows."""
        try:
            clip = extractor.load(extractor.open(source))
        except ClipProblem as problem:
            return problem
        return extractor([clip], Want(utterance=extractor.identity.default_layers))[0]

    def assert_reason(self, problem, source):
        reason = str(problem)
        assert reason
        assert "\n" not in reason
        assert source.clip_id not in reason

    def test_an_empty_clip_is_empty(self, extractor, tmp_path):
        source = self.write_empty(tmp_path)
        problem = self.outcome(extractor, source)
        assert isinstance(problem, ClipEmpty)
        self.assert_reason(problem, source)

    def test_a_very_short_clip_has_rows_or_a_reason(self, extractor, tmp_path):
        source = self.write_very_short(tmp_path)
        outcome = self.outcome(extractor, source)
        if isinstance(outcome, ClipProblem):
            self.assert_reason(outcome, source)
        else:
            assert all(np.isfinite(row).all() for row in outcome.utterance.values())

    def test_a_broken_clip_fails(self, extractor, tmp_path):
        source = self.write_broken(tmp_path)
        if source is None:
            pytest.skip("nothing of this modality can be broken")
        problem = self.outcome(extractor, source)
        assert isinstance(problem, ClipFailed)
        self.assert_reason(problem, source)

    def test_a_missing_file_fails(self, extractor, tmp_path):
        source = self.write_missing(tmp_path)
        if source is None:
            pytest.skip("this modality has no files")
        problem = self.outcome(extractor, source)
        assert isinstance(problem, ClipFailed)
        self.assert_reason(problem, source)
