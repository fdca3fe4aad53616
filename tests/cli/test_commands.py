"""The command line's contract: what is printed where, and the exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest

HEAVY = {"torch", "zarr", "dask", "distributed", "numpy", "transformers", "av", "cv2"}
AUDIO = "extract --modality audio --model tiny"


@pytest.mark.parametrize(
    "words", [[], ["extract"], ["status"], ["clips", "mer2024"], ["verify"], ["demo"]]
)
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys\nfrom mer_store.cli.main import main\n"
        "try:\n    main([*sys.argv[1:], '--help'])\n"
        f"finally:\n    print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert result.stderr.strip() == "[]"
    assert "Usage: mer-store" in result.stdout


def test_extract_status_show_verify(four_clips):
    shell = four_clips
    run = shell(f"{AUDIO} --layers 16-21 --frame-layers 15 --json", code=1)
    summary = json.loads(run.stdout)
    assert (summary["n_ok"], summary["n_failed"]) == (3, 1)
    assert "untrained" in run.stderr.lower()
    assert "not a media file" in run.stderr

    facts = json.loads(shell("status --json").stdout)["feature_sets"]
    assert {(fact["level"], tuple(fact["layers"])) for fact in facts} == {
        ("utterance", (16, 17, 18, 19, 20, 21)),
        ("frame", (15,)),
    }
    assert all((fact["ok"], fact["failed"], fact["listed_missing"]) == (3, 1, 0) for fact in facts)
    assert not any(fact["trained"] for fact in facts)
    text = shell("status").stdout
    assert "layers  16-21" in text
    assert "UNTRAINED" in text
    assert "1 x not a media file" in text

    shown = json.loads(shell("show bad --json").stdout)["feature_sets"]
    assert all(
        fact["status"] == "failed" and "not a media file" in fact["reason"] for fact in shown
    )
    assert "layers 16-21" in shell("show c1").stdout
    verified = json.loads(shell("verify --deep --json").stdout)
    assert (verified["parts"], verified["findings"]) == (2, [])
    assert verified["bytes"] > 1000


def test_second_run_has_nothing_to_do(four_clips):
    four_clips(AUDIO, code=1)
    again = four_clips(f"{AUDIO} --json", code=1)
    assert json.loads(again.stdout)["n_ok"] == 0
    assert "0 to do" in again.stderr
    assert "--retry-failed" in again.stderr


def test_a_clip_is_shown_as_stale_when_its_media_changed(four_clips):
    four_clips(AUDIO, code=1)
    (four_clips.folder / "c1.wav").write_bytes((four_clips.folder / "c2.wav").read_bytes())
    assert "stale: media changed since it was extracted" in four_clips("show c1").stdout
    assert "1 stale" in four_clips(f"{AUDIO} --dry-run").stderr


def test_stored_crops_are_compared_not_the_video(shell):
    crops = np.random.default_rng(0).integers(0, 255, (3, 112, 112, 3), np.uint8)
    for folder in ("video", "openface_face/a"):
        (shell.folder / folder).mkdir(parents=True)
    (shell.folder / "video" / "a.mp4").write_bytes(b"a video that nobody opens")
    np.save(shell.folder / "openface_face/a/a.npy", crops)
    shell.clip_list("a,video/a.mp4,")
    shell("extract --modality visual --model tiny --recipe mertools2024")
    assert "stale" not in shell("show a").stdout
    np.save(shell.folder / "openface_face/a/a.npy", crops[:2])
    assert "stale: media changed" in shell("show a").stdout


def test_a_transcript_that_changed_is_stale(four_clips):
    four_clips("extract --modality text --model tiny")
    four_clips.clip_list("c0,c0.wav,再见", "c1,c1.wav,", "c2,c2.wav,很高兴")
    assert "stale: transcript changed" in four_clips("show c0").stdout
    again = four_clips("extract --modality text --model tiny")
    assert "1 to do" in again.stderr


def test_dry_run_writes_no_part_and_estimates_bytes(four_clips):
    run = four_clips(f"{AUDIO} --layers 18 --dry-run --json")
    facts = json.loads(run.stdout)
    assert (facts["n_to_do"], facts["n_parts"]) == (4, 1)
    assert facts["n_bytes_estimated"] > 0
    assert json.loads(four_clips("status --json").stdout)["feature_sets"] == []


@pytest.mark.parametrize(("line", "message"), [
    ("extract --modality audio --model tiny --layers 16-99", "no layer"),
    ("extract --modality audio --model tiny --layers 21-16", "write 16-21"),
    ("extract --modality audio --model no/such-folder-or-name-here", "no/such-folder-or-name-here"),
    ("extract --modality audio --model tiny --recipe wonder", "wonder"),
    ("extract --modality audio --model tiny --device warp", "warp"),
    ("extract --modality audio --model tiny --clips none.csv", "none.csv"),
    ("extract --modality smell", "audio"),
    ("status --store nowhere", "mer-store init"),
    ("show nobody", "nobody"),
])  # fmt: skip
def test_wrong_use_is_said_in_words_and_exits_2(four_clips, monkeypatch, line, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    four_clips("init")
    run = four_clips(line, code=2)
    assert message in run.stderr
    assert "Traceback" not in run.output


def test_settings_file_then_variables_then_options(four_clips, monkeypatch):
    (four_clips.folder / "mer-store.toml").write_text(
        'store = "from-file"\n[extract]\npart-clips = 2\n[extract.audio]\nmodel = "tiny"\nlayers = "17"\n'
    )
    run = four_clips("extract --modality audio --dry-run")
    assert "layers 17" in run.stderr
    assert "in 2 parts" in run.stderr
    assert (four_clips.folder / "from-file" / "store.json").exists()
    monkeypatch.setenv("MER_STORE_STORE", "from-variable")
    monkeypatch.setenv("MER_STORE_LAYERS", "20")
    assert "layers 20" in four_clips("extract --modality audio --dry-run").stderr
    assert (four_clips.folder / "from-variable" / "store.json").exists()
    run = four_clips("extract --modality audio --dry-run --layers 3 --store from-option")
    assert "layers 3" in run.stderr
    assert (four_clips.folder / "from-option" / "store.json").exists()


@pytest.mark.parametrize(("text", "message"), [
    ("[extract]\nlayer = 3\n", "no such option"),
    ("[extrakt]\n", "is no command"),
    ("store = \n", "not TOML"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(four_clips, text, message):
    (four_clips.folder / "mer-store.toml").write_text(text)
    assert message in four_clips(AUDIO, code=2).stderr


def test_verify_names_the_damaged_part(four_clips):
    four_clips(AUDIO, code=1)
    [shard] = (four_clips.folder / "store").glob("features/audio/*/parts/*/18/c/0/0")
    shard.chmod(0o644)
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    run = four_clips("verify", code=1)
    assert shard.parents[3].name in run.stdout
    assert "18" in run.stdout


def test_clips_folder_and_check(four_clips):
    four_clips("clips folder . -o made.csv")
    made = (four_clips.folder / "made.csv").read_text()
    assert "c0" in made
    four_clips("clips check made.csv")
    (four_clips.folder / "c2.wav").unlink()
    run = four_clips("clips check made.csv", code=1)
    assert "c2" in run.stdout
    assert "not found" in run.stdout
