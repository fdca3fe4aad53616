"""The script that measures the torch loader runs from end to end, at a tiny size."""

from benchmarks.script_runs import figures, run


def test_every_way_to_start_workers_gives_the_plain_rows(tmp_path):
    options = "--clips 40 --frames 6 --width 16 --rounds 1 --batches 12".split()
    found = figures(run("dataloader.py", *options, "--folder", str(tmp_path)))
    assert found["clips with wrong rows in any loader, the store read before they began"] == 0
    for how in ("no worker", "2 workers, fork", "4 workers, spawn"):
        assert found[f"{how}: speed / plain read"] > 0
    descriptors = [value for name, value in found.items() if "file descriptors" in name]
    assert len(descriptors) == 3
    assert max(descriptors) <= 0
    assert list(tmp_path.iterdir()) == [], "it tidies up"
