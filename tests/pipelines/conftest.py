"""A corpus of text files and an extraction over it, with the fake extractor in the table."""

from pathlib import Path

import pytest
from fake_extractor import FakeExtractor

from extractors import table
from extractors.contract import ExtractorRequest
from mer_store.clips.clip_list import ClipList
from mer_store.store.store import Store
from pipelines import resident
from pipelines.extract import ExtractSettings, prepare


class Bench:
    """A folder with clips, a clip list and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.create(folder / "store")
        self.texts: dict[str, str] = {}
        self.rows: list[str] = []

    def add(self, **texts: str) -> None:
        for clip_id, text in texts.items():
            self.write(clip_id, text)
            self.rows.append(f"{clip_id},{clip_id}.txt")

    def write(self, clip_id: str, text: str) -> None:
        self.texts[clip_id] = text
        (self.folder / f"{clip_id}.txt").write_text(text)

    def prepare(self, **settings):
        (self.folder / "clips.csv").write_text("\n".join(["clip_id,path", *self.rows]) + "\n")
        request = settings.pop("request", ExtractorRequest("audio"))
        clip_list = ClipList.read(self.folder / "clips.csv")
        return prepare(
            self.store, clip_list, ExtractSettings(request, **{"n_decoders": 2, **settings})
        )

    def extract(self, **settings):
        return self.prepare(**settings).run()

    def features(self, level="utterance"):
        return self.store.features("audio", level=level)

    def reasons(self, level="utterance") -> dict[str, tuple[str, str | None]]:
        outcomes = self.features(level).outcomes()
        return {clip_id: (status.name.lower(), reason) for clip_id, status, reason in outcomes}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setitem(table.EXTRACTORS, "audio", "fake_extractor:FakeExtractor")
    resident.let_go()
    monkeypatch.setattr(FakeExtractor, "calls", [])
    return Bench(tmp_path)
