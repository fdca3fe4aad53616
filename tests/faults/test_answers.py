"""Answers of a remote that could be taken for others."""

import pytest

from mer_store.remote import trying
from mer_store.remote.address import Address
from mer_store.remote.bucket import Bucket


@pytest.mark.usefixtures("disks")
def test_an_error_whose_text_holds_412_is_not_taken_for_an_object_that_is_there(
    tmp_path, monkeypatch
):
    """412 is "precondition failed"; one part id in 150 holds these digits, and errors name objects."""
    monkeypatch.setattr(trying, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bucket = Bucket(Address.parse(f"gs://{tmp_path}/there"))
    real, errors = bucket.fs.pipe_file, [OSError("commits/0b412f.json: connection lost")]

    def lost_once(*args, **options):
        if errors:
            raise errors.pop()
        return real(*args, **options)

    monkeypatch.setattr(bucket.fs, "pipe_file", lost_once)
    assert bucket.put_new("commits/0b412f.json", b"record")
    assert bucket.get("commits/0b412f.json", 10) == b"record"
    assert not bucket.put_new("commits/0b412f.json", b"record")
