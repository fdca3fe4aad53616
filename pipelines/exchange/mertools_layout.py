"""MERTools' folders: what they are called, and which layers they hold."""

from mer_store.errors import UsageError
from mer_store.layers import Layer, describe_layers, parse_layers
from mer_store.spec import IMPORTED, Spec
from mer_store.store.feature_set import FeatureSet
from mer_store.store.plain_file import is_safe_name

FEATURES = "features"
SUFFIXES = {"utterance": "-UTT", "frame": "-FRA"}
RECIPES = ("mertools2024", "mertools2023")
SUMMED, EMBED = "last4sum", "embed"
N_SUMMED = 4
#: Blocks of the models in use: a store of layers 16-21 does not tell where its model ends.
N_LAYERS = {
    "chinese-hubert-large": 24,
    "chinese-hubert-base": 12,
    "chinese-wav2vec2-large": 24,
    "chinese-wav2vec2-base": 12,
    "hubert-large-ll60k": 24,
    "wavlm-large": 24,
    "wavlm-base": 12,
    "Baichuan-13B-Base": 40,
    "Baichuan2-13B-Base": 40,
    "Baichuan2-7B-Base": 32,
    "chinese-roberta-wwm-ext-large": 24,
    "chinese-macbert-large": 24,
}


def folder_name(spec: Spec, name: str | None) -> str:
    """Return the name of a feature set's folder: the model's or the one asked for, and the level's suffix.

    Raises
    ------
    UsageError
        The name is no folder's, or says another level.
    """
    name, suffix = name or spec.model, SUFFIXES[spec.level]
    if not is_safe_name(name):
        raise UsageError(f"--name {name!r}: expected letters, digits and . _ + - only")
    said = _level_of(name)
    if said not in (None, spec.level):
        raise UsageError(f"--name {name}: of {said} level, the features are of {spec.level} level")
    return name if said else name + suffix


def read_name(name: str, level: str | None) -> tuple[str, str]:
    """Return the model and the level that a folder's name says.

    Raises
    ------
    UsageError
        It says no level and none is asked for, or another one.
    """
    said = _level_of(name)
    if said is None and level is None:
        raise UsageError(f"--name {name}: ends neither in -UTT nor in -FRA; give --level")
    if said and level and said != level:
        raise UsageError(f"--name {name}: of {said} level; leave out --level {level}")
    return name.removesuffix(SUFFIXES[said]) if said else name, said or level or ""


def layers_to_write(feature_set: FeatureSet, text: str | None) -> tuple[Layer, ...]:
    """Return the layers whose sum MERTools has in a file: those asked for, else those of its recipes.

    Audio and text: the sum of the last four, as a recipe stored it, else of the four; visual: ``embed``.

    Raises
    ------
    UsageError
        They are not there; the message names the command that makes them.
    """
    spec, there = feature_set.spec, feature_set.layers
    if text:
        return parse_layers(text, there)
    if spec.modality == "visual":
        wanted: tuple[Layer, ...] = (EMBED,)
    elif SUMMED in there:
        wanted = (SUMMED,)
    elif (spec.recipe in RECIPES or spec.weights == IMPORTED) and len(there) == 1:
        wanted = there
    elif spec.model in N_LAYERS:
        n_layers = N_LAYERS[spec.model]
        wanted = tuple(range(n_layers - N_SUMMED + 1, n_layers + 1))
    else:
        raise UsageError(
            f"{spec.name}: which layers of {spec.model} are its last four is not known; name them with "
            f"--layers, to be summed (stored: {describe_layers(there)})"
        )
    if missing := [layer for layer in wanted if layer not in there]:
        raise UsageError(
            f"{spec.name}: MERTools has {describe_layers(wanted)} in one file, the store lacks "
            f"{describe_layers(missing)} (stored: {describe_layers(there)}); run `mer-store extract "
            f"--modality {spec.modality} --level {spec.level} --recipe {spec.recipe} --layers "
            f"{describe_layers(missing).replace(' ', '')}`, or name others with --layers"
        )
    return wanted


def layer_to_store(modality: str, recipe: str, model: str, text: str | None) -> Layer:
    """Return the layer that a folder's features are: the one asked for, else that of the recipe.

    Raises
    ------
    UsageError
        More than one is asked for, or it is not known.
    """
    if text:
        if not is_safe_name(text):
            raise UsageError(
                f"--layers {text!r}: expected one layer, such as 24, embed or {SUMMED}"
            )
        return int(text) if text.isdecimal() else text
    if modality == "visual":
        return EMBED
    if modality == "audio" and recipe == "mertools2023":  # the last layer only
        if model not in N_LAYERS:
            raise UsageError(f"{model}: name its last layer with --layers: {recipe} holds it alone")
        return N_LAYERS[model]
    return SUMMED


def _level_of(name: str) -> str | None:
    return next((level for level, suffix in SUFFIXES.items() if name.endswith(suffix)), None)
