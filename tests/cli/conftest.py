"""A working folder with wav clips, and the command line run in this process."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from media_factory import make_wav

from mer_store.cli import main


class Shell:
    """Runs ``mer-store`` as a person would, in a folder of its own."""

    def __init__(self, folder, monkeypatch) -> None:
        self.folder = folder
        monkeypatch.chdir(folder)

    def __call__(self, line: str, code: int = 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.exit", self._exit)
            result = CliRunner().invoke(_EntryPoint(), line.split())
        assert result.exit_code == code, result.output
        return SimpleNamespace(stdout=result.stdout, stderr=result.stderr, output=result.output)

    @staticmethod
    def _exit(code=0):
        raise SystemExit(code)

    def clip_list(self, *rows: str, header: str = "clip_id,path,text") -> None:
        (self.folder / "clips.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


class _EntryPoint:
    """Lets click's runner call `main`, error handling and exit codes included."""

    name = "mer-store"

    def main(self, args, prog_name, **extra):
        main(args)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    return Shell(tmp_path, monkeypatch)


@pytest.fixture
def four_clips(shell):
    """Three clips with sound and one that is no media file."""
    for number in range(3):
        make_wav(shell.folder / f"c{number}.wav", 0.3 + 0.1 * number, seed=number)
    (shell.folder / "bad.mp4").write_text("this is not a video")
    shell.clip_list("c0,c0.wav,你好吗", "c1,c1.wav,", "c2,c2.wav,很高兴", "bad,bad.mp4,")
    return shell
