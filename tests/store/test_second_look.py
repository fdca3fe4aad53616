"""What could not be read once is read again before anything is moved."""

import errno

import pytest
from part_factory import make_set, ok_clip, part_folder, write_part

from mer_store.cli.main import main
from mer_store.store import part_check
from mer_store.store.store import Store


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Return a store of two parts, and a function after which the first reads of a file fail."""
    feature_set = make_set(tmp_path / "store")
    records = [write_part(feature_set, [ok_clip(clip_id)]) for clip_id in ("a", "b")]
    real, failures = part_check.look, []

    def look(part, path, *rest):
        if failures and part.name == records[0].part_id and path.startswith("18/c"):
            failures.pop()
            raise OSError(errno.EIO, "Input/output error")
        return real(part, path, *rest)

    monkeypatch.setattr(part_check, "look", look)
    monkeypatch.chdir(tmp_path)
    return feature_set, records, lambda n_times: failures.extend([None] * n_times)


def repair(capsys):
    with pytest.raises(SystemExit) as end:
        main(["repair"])
    return end.value.code, capsys.readouterr()


def test_a_part_that_can_be_read_again_is_left(broken, capsys):
    feature_set, records, fail = broken
    fail(1)
    code, said = repair(capsys)
    assert code == 0
    assert "Input/output error; sound at a second look: left" in said.err
    assert part_folder(feature_set, records[0]).is_dir()
    assert len(Store.open("store").features("audio").clip_ids) == 2


def test_a_part_that_stays_unreadable_is_moved(broken, capsys):
    feature_set, records, fail = broken
    fail(100)
    code, said = repair(capsys)
    assert code == 0
    assert "moved to quarantine" in said.out or "quarantine" in said.out
    assert not part_folder(feature_set, records[0]).exists()
    assert Store.open("store").features("audio").clip_ids == ("b",)
