"""Epochs: the loop's counter, with progress, a log, checkpoints, and a clean stop."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from pipelines.interrupt import StopFile, stop_on_signal
from pipelines.lines import line_options
from pipelines.train.run_folder import CHECKPOINT, METRICS, RunFolder

#: A kill costs no more than this; Ctrl-C costs nothing.
SAVE_EVERY_S = 20.0
_EPOCH = "next_epoch"


class Resumable(Protocol):
    """State of a training that a checkpoint keeps."""

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` returned."""


class Epochs:
    """Counts the epochs of a run that are left. A context manager.

    Ctrl-C or SIGTERM ends the epoch in hand, writes a checkpoint and raises `KeyboardInterrupt`; the same
    command goes on there.

    Examples
    --------
    >>> with Epochs(run, settings.epochs, state) as epochs:  # doctest: +SKIP
    ...     for epoch in epochs:
    ...         epochs.log(loss=train_one(epoch))
    """

    def __init__(self, run: RunFolder, n_epochs: int, state: Resumable) -> None:
        self._run = run
        self._n_epochs = n_epochs
        self._state = state
        self._stop = StopFile(run.path)
        self._stack = ExitStack()
        self._epoch = 0
        self._saved_s = time.monotonic()
        self.elapsed_s = 0.0
        """Spent on epochs, earlier sittings included."""

    def __enter__(self) -> Self:
        self._stack.enter_context(self._run.locked())
        self._epoch = self._resume()
        self._stack.enter_context(stop_on_signal(self._stop))
        self._bar = tqdm(
            total=self._n_epochs, initial=self._epoch, desc=self._run.path.name, unit=" epochs",
            **line_options(sys.stderr),
        )  # fmt: skip
        self._log = self._stack.enter_context((self._run.path / METRICS).open("a"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._stack.close()

    def __iter__(self) -> Iterator[int]:
        """Yield the number of each epoch that is left, from 0."""
        while self._epoch < self._n_epochs:
            started_s = time.monotonic()
            yield self._epoch
            self._epoch += 1
            self.elapsed_s += time.monotonic() - started_s
            self._bar.update()
            if self._stop.asked or self._epoch == self._n_epochs:
                self._save()
            if self._stop.asked:
                self._bar.close()
                where = f"{self._run.path}: stopped after epoch {self._epoch} of {self._n_epochs}"
                print(f"{where}; the same command goes on from there", file=sys.stderr)
                raise KeyboardInterrupt
            if time.monotonic() - self._saved_s > SAVE_EVERY_S:
                self._save()

    def log(self, **values: float | list[float]) -> None:
        """Write a line about the epoch in hand to ``metrics.jsonl``, and its numbers beside the progress."""
        self._log.write(json.dumps({"epoch": self._epoch, **values}) + "\n")
        self._log.flush()
        shown = {name: f"{value:.4g}" for name, value in values.items() if isinstance(value, float)}
        self._bar.set_postfix_str(
            "  " + "  ".join(f"{k} {v}" for k, v in shown.items()), refresh=False
        )

    def _save(self) -> None:
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self._state.tensors().items()
        }
        facts = {_EPOCH: str(self._epoch), "elapsed_s": str(self.elapsed_s)}
        part = self._run.path / f".{CHECKPOINT}.part"
        save_file(tensors, part, facts)
        part.replace(self._run.path / CHECKPOINT)
        self._saved_s = time.monotonic()

    def _resume(self) -> int:
        """Return the epoch to go on with; what was logged of later ones is dropped."""
        epoch = self._restore()
        path = self._run.path / METRICS
        lines = path.read_text().splitlines() if path.is_file() else []
        kept = [line for line in lines if _epoch_of(line) < epoch]
        path.write_text("".join(f"{line}\n" for line in kept))
        return epoch

    def _restore(self) -> int:
        path = self._run.path / CHECKPOINT
        if not path.is_file():
            return 0
        from safetensors import safe_open

        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata()
            self._state.restore(load_file(path))
        except (SafetensorError, OSError, KeyError) as error:
            print(f"{path}: not read ({error}); training from the start", file=sys.stderr)
            return 0
        self.elapsed_s = float(facts["elapsed_s"])
        return int(facts[_EPOCH])


def _epoch_of(line: str) -> int:
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # cut off by a crash


class TrainingState:
    """Models and their optimisers, as a checkpoint keeps them."""

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        *others: Resumable,
    ) -> None:
        self._models = models
        self._optimizers = optimizers
        self._others = others

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters, buffers and the optimisers' moments."""
        found = {
            f"model.{name}.{key}": tensor
            for name, model in self._models.items()
            for key, tensor in model.state_dict().items()
        }
        for name, optimizer in self._optimizers.items():
            for number, slots in optimizer.state_dict()["state"].items():
                found |= {
                    f"optimizer.{name}.{number}.{slot}": value for slot, value in slots.items()
                }
        for number, other in enumerate(self._others):
            found |= {f"other.{number}.{key}": tensor for key, tensor in other.tensors().items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` returned."""
        for name, model in self._models.items():
            model.load_state_dict(_below(tensors, f"model.{name}."))
        for name, optimizer in self._optimizers.items():
            state: dict[int, dict[str, Any]] = {}
            for key, tensor in _below(tensors, f"optimizer.{name}.").items():
                number, _, slot = key.partition(".")
                state.setdefault(int(number), {})[slot] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        for place, other in enumerate(self._others):
            other.restore(_below(tensors, f"other.{place}."))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
