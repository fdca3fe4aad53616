"""Settings: defaults, TOML, assignments; what cannot be read is said with the key."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from mer_store.errors import UsageError
from pipelines.train.choices import FeatureChoice, ProtocolSettings
from pipelines.train.settings import find_config, read_settings, to_toml, to_values


@dataclass(frozen=True, kw_only=True)
class Settings(ProtocolSettings):
    lr: float = 1e-4
    batch: int = 32
    kind: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = (64, 128)
    share: float | None = None
    shuffle: bool = True
    audio: FeatureChoice = field(default_factory=lambda: FeatureChoice(layers="18"))


def test_later_sources_win(tmp_path):
    config = tmp_path / "mine.toml"
    config.write_text('lr = 0.01\nbatch = 8\n[audio]\nlayers = "16-21"\nrecipe = "adapter"\n')
    settings = read_settings(Settings, config, ["batch=4", "audio.layers=20", "audio.layers=21"])
    assert (settings.lr, settings.batch) == (0.01, 4)
    assert settings.audio == FeatureChoice(layers="21", recipe="adapter")
    assert settings.widths == (64, 128)


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("lr=1e-3", "lr", 1e-3),
        ("lr=1", "lr", 1.0),
        ("batch=16", "batch", 16),
        ("widths=[1, 2]", "widths", (1, 2)),
        ("shuffle=false", "shuffle", False),
        ("share=0.5", "share", 0.5),
        ("kind=b", "kind", "b"),
        ("name=mine", "name", "mine"),
        ("name=12", "name", "12"),
        ("classes=yes,no", "classes", ("yes", "no")),
    ],
)
def test_values_take_the_type_of_their_setting(assignment, name, value):
    read = getattr(read_settings(Settings, None, [assignment]), name)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("learning_rate=1", "setting learning_rate: there is none"),
        ("bach=1", "did you mean batch"),
        ("audio.layer=18", "did you mean audio.layers"),
        ("batch=1.5", "setting batch: expected int; got 1.5"),
        ("batch=true", "setting batch: expected int; got True"),
        ("lr=fast", "setting lr: expected float; got 'fast'"),
        ("kind=c", "setting kind: expected a or b; got 'c'"),
        ("widths=[1, 'x']", "setting widths: expected int"),
        ("lr", "expected key=value"),
        ("lr.rate=1", "setting lr: expected float"),
        ("n_folds=1", "setting n_folds: expected 2 or more; got 1"),
        ("selection=best", "setting selection"),
        ("classes=a,a", "setting classes"),
    ],
)
def test_what_cannot_be_read_is_said(assignment, words):
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        read_settings(Settings, None, [assignment])


def test_written_settings_read_back(tmp_path):
    settings = read_settings(
        Settings, None, ["lr=3e-5", 'audio.model=a "quoted" name\\n', "classes=喜,怒", "share=0.25"]
    )
    (tmp_path / "config.toml").write_text(to_toml(settings))
    assert read_settings(Settings, tmp_path / "config.toml") == settings
    assert to_values(settings)["audio"]["recipe"] == "default"


def test_a_bundled_config_is_found_by_name_and_others_are_listed():
    assert find_config("hl18").name == "hl18.toml"
    with pytest.raises(UsageError, match=r"those that come along:.*hl18"):
        find_config("no-such-config")


def test_a_file_that_is_no_toml(tmp_path):
    (tmp_path / "bad.toml").write_text("lr = = 1")
    with pytest.raises(UsageError, match=r"bad\.toml: not TOML"):
        read_settings(Settings, tmp_path / "bad.toml")
