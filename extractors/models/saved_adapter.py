"""Adapters on disk: what `mer-store train adapter` leaves and `mer-store extract --adapter` takes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from extractors.models.adapter import AdaptedBlocks, FrozenBlocks, OutputAdapters, Placement
from mer_store.errors import UsageError
from mer_store.spec import Spec

FACTS, TENSORS = "adapter.json", "adapter.safetensors"
WEIGHT = "layer_weights"
Site = Literal["blocks", "outputs"]
"""In the blocks of the model, or on its layers' pooled outputs."""


@dataclass(frozen=True)
class AdapterFacts:
    """All that decides what adapters compute, but their tensors."""

    model: str
    """Base model, as the trainer was given it: hub name, folder or ``tiny``. Changes no numbers."""
    weights: str
    """Digest of the base model's weights, as in a spec."""
    site: Site
    placement: Placement
    first: int
    """Layer whose cached states they start from; of site ``outputs`` without meaning."""
    layers: tuple[int, ...]
    bottleneck: int
    width: int
    base_spec: Mapping[str, Any]
    """Spec of the feature set they were trained on."""

    @property
    def base_spec_fingerprint(self) -> str:
        """Fingerprint of that spec."""
        return Spec(**self.base_spec).fingerprint

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise `ValueError` where these are not the tensors that the facts speak of, all of them."""
        if self.site not in get_args(Site) or self.placement not in get_args(Placement):
            raise ValueError(f"site {self.site!r}, placement {self.placement!r}")
        Spec(**self.base_spec)
        inner, outer = self.bottleneck, self.width
        shapes: dict[str, tuple[int, ...]] = {WEIGHT: (len(self.layers),)}
        for layer in self.layers:
            name = f"adapters.{layer}"
            shapes |= {f"{name}.down.weight": (inner, outer), f"{name}.down.bias": (inner,)}
            shapes |= {f"{name}.up.weight": (outer, inner), f"{name}.up.bias": (outer,)}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        wrong = sorted(name for name, _ in shapes.items() ^ found.items())
        if wrong:
            raise ValueError(
                f"tensor {wrong[0]}: expected shape {shapes.get(wrong[0])}, got {found.get(wrong[0])}"
            )


@dataclass(frozen=True)
class SavedAdapter:
    """Trained adapters and the weights of the layers' sum."""

    facts: AdapterFacts
    tensors: Mapping[str, Tensor]
    """``adapters.<layer>.down.weight`` and so on, and ``layer_weights`` [L]."""

    @property
    def digest(self) -> str:
        """``sha256:`` and 64 hex digits over all that decides the numbers."""
        facts = {name: value for name, value in asdict(self.facts).items() if name != "model"}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.float().contiguous().cpu().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"

    @property
    def layer_weights(self) -> Tensor:
        """How much each layer counts in the sum, [L]."""
        return self.tensors[WEIGHT]

    def in_blocks(self, frozen: FrozenBlocks) -> AdaptedBlocks:
        """Put the adapters into blocks."""
        facts = self.facts
        model = AdaptedBlocks(frozen, facts.layers, facts.placement, facts.bottleneck)
        model.load_state_dict(self._adapters)
        return model.requires_grad_(requires_grad=False)

    def on_outputs(self) -> OutputAdapters:
        """Return the adapters of site ``outputs``."""
        model = OutputAdapters(self.facts.width, self.facts.layers, self.facts.bottleneck)
        model.load_state_dict(self._adapters)
        return model.requires_grad_(requires_grad=False)

    @property
    def _adapters(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.tensors.items() if name != WEIGHT}


def save_adapter(folder: Path, saved: SavedAdapter) -> None:
    """Write them into a run's folder."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in saved.tensors.items()}
    save_file(tensors, folder / TENSORS)
    (folder / FACTS).write_text(json.dumps(asdict(saved.facts), indent=1) + "\n", encoding="utf-8")


def load_adapter(folder: Path | str) -> SavedAdapter:
    """Read what `save_adapter` wrote.

    Raises
    ------
    UsageError
        The folder holds no adapter, or not one that this version reads.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        values = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        facts = AdapterFacts(**{**values, "layers": tuple(values["layers"])})
        facts.check(tensors)
        saved = SavedAdapter(facts, tensors)
    except (OSError, ValueError, KeyError, TypeError, UsageError, SafetensorError) as error:
        raise UsageError(
            f"{folder}: expected the folder of a finished adapter, as `mer-store train adapter` "
            f"prints it; {error}"
        ) from error
    if any(not torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise UsageError(f"{folder}: the adapter holds values that are not finite; train it again")
    return saved
