"""The options of ``mer-store extract`` as the pipeline takes them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mer_store.cli.modalities import by_modality
from mer_store.cli.settings import modality_defaults
from mer_store.errors import UsageError

if TYPE_CHECKING:
    from pipelines.extract import ExtractSettings, Stream
    from pipelines.workers import Workers

#: Options that say something of one modality, named, or of the only one.
NAMED = ("layers", "frame_layers", "model")
#: Options that may be said of all alike, and what they are where nothing is said of a modality.
SHARED = {"recipe": "default", "compute_dtype": "auto"}
#: Options that concern one kind of extractor, which alone looks at them.
OWN = ("faces", "images_per_second", "detect_every", "store_crops", "adapter")


def extract_settings(context: click.Context, options: dict[str, Any]) -> "ExtractSettings":
    """Return the settings of a run.

    Raises
    ------
    UsageError
        An option does not say which modality it means, or two contradict each other.
    """
    from extractors.contract import CROPS
    from pipelines.extract import ExtractSettings

    modalities: tuple[str, ...] = options["modalities"]
    said = {name: _said(name, options[name], modalities) for name in (*NAMED, *SHARED)}
    streams, run = [], dict(options)
    for modality in modalities:
        defaults = _defaults(context, modality, said, adapted=bool(options["adapter"]))
        own: dict[str, Any] = {name: options[name] for name in OWN}
        own |= {name: said[name].get(modality) for name in NAMED}
        own |= {name: said[name].get(modality, default) for name, default in SHARED.items()}
        of_run = {name: value for name, value in defaults.items() if name not in own}
        if of_run and len(modalities) > 1:
            raise UsageError(
                f"[extract.{modality}] in mer-store.toml sets {', '.join(sorted(of_run))}, which several "
                f"modalities in one run share: set it in [extract], or by an option"
            )
        run |= of_run
        own |= defaults
        if modality != "audio" and "audio" in modalities:
            own["adapter"] = None
        streams.append(_stream(modality, own, run))
        if own["store_crops"] and modality == "visual":
            model = f"{CROPS}:{own['store_crops']}"
            crops = {"model": model, "layers": None, "frame_layers": None}
            streams.append(_stream(modality, own | crops, run))
    first, *others = streams
    decoders = {"n_decoders": run["decoders"]} if run["decoders"] else {}
    return ExtractSettings(
        request=first.request,
        layers=first.layers,
        frame_layers=first.frame_layers,
        others=tuple(others),
        level=run["level"],
        stored_dtype=run["stored_dtype"],
        part_clips=run["part_clips"],
        workers=_workers(run),
        progress=run["progress"],
        retry_failed=run["retry_failed"],
        **decoders,
    )


def _said(name: str, value: str | None, modalities: tuple[str, ...]) -> dict[str, str]:
    return by_modality(
        name.replace("_", "-"), value, modalities, shared=name in SHARED or value == "tiny"
    )


def _defaults(
    context: click.Context, modality: str, said: dict[str, dict[str, str]], *, adapted: bool
) -> dict[str, Any]:
    """Return what the modality's table in mer-store.toml says and no option does."""
    table = (context.default_map or {}).get(modality, {})
    defaults = modality_defaults(context, modality)
    defaults |= {
        name: table[name] for name in NAMED if name in table and modality not in said[name]
    }
    if adapted:  # these speak of the base model's features
        for name in ("layers", "frame_layers", "recipe"):
            defaults.pop(name, None)
    return defaults


def _stream(modality: str, own: dict[str, Any], run: dict[str, Any]) -> "Stream":
    from extractors.contract import ExtractorRequest
    from pipelines.extract import Stream

    adapter = own["adapter"]
    request = ExtractorRequest(
        modality=modality,
        model=own["model"],
        recipe=own["recipe"],
        device=run["device"],
        compute_dtype=own["compute_dtype"],
        faces=own["faces"],
        images_per_second=own["images_per_second"],
        detect_every=own["detect_every"],
        adapter=str(Path(adapter).absolute()) if adapter else None,
    )
    return Stream(request, own["layers"], own["frame_layers"])


def _workers(options: dict[str, Any]) -> "Workers":
    from pipelines.slurm import read_slurm_options
    from pipelines.workers import Workers

    if options["cluster"] and options["scheduler"]:
        raise UsageError("--cluster submits workers, --scheduler uses those there are: give one")
    if options["config"] and not options["cluster"]:
        raise UsageError("--config says what is asked of a cluster: give --cluster slurm with it")
    return Workers(
        number=options["workers"],
        scheduler=options["scheduler"],
        slurm=read_slurm_options(options["config"]) if options["cluster"] else None,
        device=options["device"],
        dashboard=options["dashboard"],
    )
