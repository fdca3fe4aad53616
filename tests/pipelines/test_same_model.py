"""A worker whose model is not the one that was planned with stores nothing."""

from dataclasses import replace

import pytest
from fake_extractor import FakeExtractor

from pipelines import part, resident
from pipelines.unfit import UnfitError


@pytest.mark.parametrize(
    ("name", "value"), [("compute_dtype", "bfloat16"), ("weights", "sha256:other")]
)
def test_it_is_unfit_and_says_why(bench, monkeypatch, name, value):
    bench.add(a="one two", b="three")
    [work] = bench.prepare().plan.parts

    class Other(FakeExtractor):
        def __init__(self, request) -> None:
            super().__init__(request)
            self.identity = replace(self.identity, **{name: value})

    monkeypatch.setattr(resident, "build_extractor", Other)
    with pytest.raises(UnfitError, match=f"{name}: the run was planned for .* here it is {value}"):
        part.make_part(work)
    assert bench.store.feature_sets() == []
