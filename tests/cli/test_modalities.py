"""Options that say something of each modality."""

import click
import pytest

from mer_store.cli.modalities import ModalityList, by_modality
from mer_store.errors import UsageError

BOTH = ("audio", "text")


@pytest.mark.parametrize(
    ("value", "modalities", "expected"),
    [
        ("16-21", ("audio",), {"audio": "16-21"}),
        ("18,20", ("audio",), {"audio": "18,20"}),
        ("audio=18,20,text=last4", BOTH, {"audio": "18,20", "text": "last4"}),
        ("text=all", BOTH, {"text": "all"}),
        ("models/a=b", ("audio",), {"audio": "models/a=b"}),
        (None, BOTH, {}),
    ],
)
def test_what_is_said_of_each(value, modalities, expected):
    assert by_modality("layers", value, modalities) == expected


def test_a_plain_value_may_go_for_all():
    assert by_modality("recipe", "mertools2024", BOTH, shared=True) == dict.fromkeys(
        BOTH, "mertools2024"
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("16-21", "say of which modality: --layers audio=…,text=…"),
        ("visual=embed", "speaks of visual, which --modality does not name"),
        ("audio=1,audio=2", "speaks of audio twice"),
    ],
)
def test_what_is_not_clear_is_refused(value, why):
    with pytest.raises(UsageError, match=why):
        by_modality("layers", value, BOTH)


def test_a_list_of_modalities():
    kind = ModalityList()
    assert kind.convert("audio, text", None, None) == BOTH
    for wrong in ("smell", "audio,audio", ""):
        with pytest.raises(click.BadParameter):
            kind.convert(wrong, None, None)
