"""Exit codes and words where one of several modalities has damaged weights."""

import json

from checkpoint_factory import save_hubert


def test_what_is_missing_is_said_and_the_same_command_makes_it(four_clips):
    shell = four_clips
    shell.clip_list("c0,c0.wav,你好吗", "c1,c1.wav,好", "c2,c2.wav,很高兴")
    weights = save_hubert(shell.folder / "model") / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    line = (
        "extract --modality audio,text --model audio=model,text=tiny --layers audio=2,text=1 --json"
    )
    run = shell(line, code=1)
    facts = json.loads(run.stdout)
    assert (facts["n_ok"], facts["n_failed"], len(facts["part_ids"])) == (3, 0, 1)
    assert facts["left_out"]["audio"]["n_clips"] == 3
    assert "weights cannot be read" in facts["left_out"]["audio"]["reason"]
    assert run.stderr.count("weights cannot be read") == 1
    assert "audio is missing for 3 clips, none of them recorded" in run.stderr
    assert "run the same command again" in run.stderr

    assert facts["bottleneck"]["modality"] in ("text", None)
    assert set(facts["bottleneck"]["by_modality"]) <= {"text", "reading"}

    assert json.loads(shell(line, code=1).stdout)["part_ids"] == [], "still damaged"
    weights.write_bytes(whole)
    facts = json.loads(shell(line).stdout)
    assert (facts["n_ok"], facts["left_out"], len(facts["part_ids"])) == (3, {}, 1)
    assert "0 to do" in shell(line).stderr
