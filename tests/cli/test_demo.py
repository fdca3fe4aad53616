"""The demo, offline: generated clips through every step to the page."""

import mer_store


def test_demo_offline(shell):
    run = shell("demo --offline out")
    page = (shell.folder / "out" / "index.html").read_text(encoding="utf-8")
    store = mer_store.open(shell.folder / "out" / "store")
    sets = {(item.spec.modality, item.spec.level): item for item in store.feature_sets()}
    assert len(sets) == 5
    assert len(sets["visual", "frame"].clip_ids) >= 15, "the portrait's face is found"
    assert not any(item.spec.trained for item in sets.values())
    assert page.count("untrained") >= 6
    assert "no face" in page
    assert "generated media" in page
    assert page.count("<img ") == 6
    assert 'src="http' not in page, "nothing is loaded from elsewhere"
    assert "0 findings" in run.output
