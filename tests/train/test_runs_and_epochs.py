"""Run folders are found again by what made them; a training goes on at the epoch where it stopped."""

import json
import os
import signal
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from mer_store.clips.clip_list import Clip
from mer_store.errors import MerStoreError, UsageError
from pipelines.train import epochs as epochs_module
from pipelines.train.choices import ProtocolSettings
from pipelines.train.epochs import Epochs, TrainingState
from pipelines.train.folds import assign_folds
from pipelines.train.predictions import Predictions
from pipelines.train.roster import make_roster
from pipelines.train.run_folder import RunFolder, list_runs
from pipelines.train.selection import BestEpochs
from pipelines.train.streams import stream

CLASSES = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")
INPUTS = [{"modality": "audio", "digest": "abc"}]


@dataclass(frozen=True, kw_only=True)
class Settings(ProtocolSettings):
    lr: float = 1e-4


def begin(folder, settings=None, inputs=INPUTS, labels="anger worry anger worry", fold_seed=0):
    clips = [Clip(f"c{n}", label=label, split="labelled") for n, label in enumerate(labels.split())]
    roster = make_roster(clips, CLASSES)
    folds = assign_folds(roster, ProtocolSettings(n_folds=2, fold_seed=fold_seed))
    return RunFolder.begin(folder, "probe", settings or Settings(), inputs, roster, folds)


def finish(run):
    weights = {"layer.weight": torch.arange(6.0).reshape(2, 3)}
    run.finish(
        {"weighted_f1_mean": 0.5}, weights, Predictions(("c0",), ("no", "yes"), np.eye(2)[:1])
    )


def test_the_same_settings_and_inputs_find_the_same_folder(tmp_path):
    run = begin(tmp_path)
    assert begin(tmp_path).path == run.path
    others = [
        begin(tmp_path, Settings(lr=1e-3)),
        begin(tmp_path, inputs=[{"modality": "audio", "digest": "other"}]),
        begin(tmp_path, labels="anger worry worry worry"),
        begin(tmp_path, fold_seed=1),
        begin(tmp_path, Settings(name="a name/of mine")),
    ]
    assert len({run.path, *(other.path for other in others)}) == 6
    assert others[-1].path.name.startswith("probe-a_name_of_mine-")


def test_a_finished_run_holds_all_of_it(tmp_path):
    run = begin(tmp_path)
    assert not run.finished
    with pytest.raises(UsageError, match="not finished"):
        RunFolder.open(run.path)
    finish(run)
    opened = RunFolder.open(run.path)
    assert opened.task == "probe"
    assert opened.settings(Settings) == Settings()
    assert opened.inputs == INPUTS
    assert opened.summary["weighted_f1_mean"] == 0.5
    assert {"torch", "numpy", "python"} <= opened.summary["versions"].keys()
    assert torch.equal(opened.weights()["layer.weight"], torch.arange(6.0).reshape(2, 3))
    assert opened.predictions().labels == ["no"]
    assert (run.path / "folds.csv").read_text().startswith("clip_id,fold\nc0,")
    assert [found.path for found in list_runs(tmp_path)] == [run.path]


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(UsageError, match="not a run"):
        RunFolder.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no run can be written there"):
        begin(tmp_path / "file" / "runs")


def train(run, n_epochs, at_epoch=lambda epoch: None):
    """Train a small model with a moving optimiser; everything random is a function of the epoch."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    best = BestEpochs(model, 2)
    with Epochs(run, n_epochs, TrainingState({"m": model}, {"m": optimizer}, best)) as epochs:
        for epoch in epochs:
            x = torch.randn(8, 4, generator=stream("test", epoch))
            loss = (model(x) - x[:, :2]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            best.offer(epoch, model.bias.detach().clone())
            epochs.log(loss=loss.item())
            at_epoch(epoch)
    return model, best


def test_stopped_and_resumed_equals_uninterrupted(tmp_path, capfd):
    whole = begin(tmp_path / "whole")
    expected, expected_best = train(whole, 6)

    def interrupt(epoch):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    run = begin(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train(run, 6, interrupt)
    assert "stopped after epoch 3 of 6; the same command goes on" in capfd.readouterr().err
    model, best = train(run, 6)
    assert torch.equal(model.weight, expected.weight)
    assert torch.equal(best.epoch, expected_best.epoch)
    logged = [line["epoch"] for line in run.metrics()]
    assert logged == [0, 1, 2, 3, 4, 5]
    assert [m["loss"] for m in run.metrics()] == [m["loss"] for m in whole.metrics()]


def test_a_killed_run_goes_on_at_its_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(epochs_module, "SAVE_EVERY_S", 0.0)

    def die(epoch):
        if epoch == 3:
            raise RuntimeError("as if killed")

    run = begin(tmp_path / "parts")
    with pytest.raises(RuntimeError):
        train(run, 6, die)
    assert [line["epoch"] for line in run.metrics()] == [0, 1, 2, 3]
    model, _ = train(run, 6)
    assert [line["epoch"] for line in run.metrics()] == [0, 1, 2, 3, 4, 5]
    assert torch.equal(model.weight, train(begin(tmp_path / "whole"), 6)[0].weight)


def test_a_damaged_checkpoint_costs_the_epochs_not_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(epochs_module, "SAVE_EVERY_S", 0.0)
    run = begin(tmp_path)
    train(run, 2)
    (run.path / "checkpoint.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    train(run, 4)
    assert "training from the start" in capsys.readouterr().err
    assert [line["epoch"] for line in run.metrics()] == [0, 1, 2, 3]


def test_two_processes_do_not_train_one_run(tmp_path):
    run = begin(tmp_path)
    with run.locked(), pytest.raises(MerStoreError, match="another process is training"):
        train(run, 1)


def test_epochs_work_outside_the_main_thread(tmp_path):
    run = begin(tmp_path)
    thread = threading.Thread(target=train, args=(run, 2))
    thread.start()
    thread.join()
    assert len(run.metrics()) == 2


def test_the_log_is_one_json_object_a_line(tmp_path):
    run = begin(tmp_path)
    train(run, 2)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]


def test_best_epochs_are_kept_for_each_model():
    model = nn.Linear(1, 3, bias=False)
    best = BestEpochs(model, 3)
    scores = [[0.1, 0.9, 0.5], [0.3, 0.2, 0.5], [0.2, 0.3, 0.6]]
    with torch.no_grad():
        for epoch, row in enumerate(scores):
            model.weight.fill_(float(epoch))
            best.offer(epoch, torch.tensor(row))
    best.take()
    assert best.epoch.tolist() == [1, 0, 2]
    assert model.weight.flatten().tolist() == [1.0, 0.0, 2.0]
