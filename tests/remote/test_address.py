"""Addresses: read from what a person types, shown without secrets."""

import pytest

from mer_store.errors import UsageError
from mer_store.remote.address import Address, hide_secrets, is_url


@pytest.mark.parametrize(
    ("text", "url", "protocol"),
    [
        ("s3://team/mer2024/", "s3://team/mer2024", "s3"),
        ("https://example.org/a", "https://example.org/a", "https"),
        ("/mnt/usb/store", "/mnt/usb/store", "file"),
        ("store", "store", "file"),
        ("file:///mnt/usb", "/mnt/usb", "file"),
        ("hf://datasets/team/mer", "hf://datasets/team/mer", "hf"),
        ("a:b", "a:b", "file"),
    ],
)
def test_what_is_read(text, url, protocol):
    address = Address.parse(text)
    assert (address.url, address.protocol) == (url, protocol)
    assert address.is_folder is (protocol == "file")
    assert address.is_read_only is (protocol == "https")
    assert is_url(text) is (protocol != "file")


@pytest.mark.parametrize(
    "text", ["", "  ", "ftp://host/x", "javascript://x", "simplecache::s3://x/y"]
)
def test_what_is_refused(text):
    if "::" in text:  # a folder of an odd name, at most: never a chain of file systems
        assert Address.parse(text).is_folder
        return
    with pytest.raises(UsageError):
        Address.parse(text)


def test_secrets_are_not_shown():
    url = "https://user:hunter2@example.org/a?X-Amz-Signature=abcd#token"
    assert hide_secrets(url) == "https://example.org/a"
    assert "hunter2" not in str(Address.parse(url))
    with pytest.raises(UsageError) as caught:
        Address.parse("ftp://user:hunter2@host/x?key=abcd")
    assert "hunter2" not in str(caught.value)
    assert "abcd" not in str(caught.value)
