"""What lies below a folder."""

from mer_store.store.files_below import files_below


def test_files_and_links_are_named_by_their_place_and_links_not_followed(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(b"four")
    (tmp_path / "top").write_bytes(b"")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "deep")

    found = dict(files_below(tmp_path))

    assert sorted(found) == ["deep/er/file", "elsewhere", "top"]
    assert found["deep/er/file"].stat().st_size == 4


def test_a_folder_that_goes_meanwhile_is_empty(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"")

    below = files_below(tmp_path)
    first, _ = next(below)
    gone = {"a/file": "b", "b/file": "a"}[first]
    (tmp_path / gone / "file").unlink()
    (tmp_path / gone).rmdir()

    assert list(below) == []
    assert list(files_below(tmp_path / "never")) == []
