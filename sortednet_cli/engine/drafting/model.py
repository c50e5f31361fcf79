"""What a name stands for: a family, its configuration, and where its weights are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sortednet_cli.errors import RequestError, WorkError, as_word, install_line, listed, shortened
from sortednet_cli.families.timm.family import timm_models
from sortednet_cli.families.transformers.architecture import Architecture, architectures
from sortednet_cli.families.transformers.complete import class_of
from sortednet_cli.spec import ModelSpec
from sortednet_cli.spec.factories import check_allowed
from sortednet_cli.spec.families import family_facts, family_names, own_families
from sortednet_cli.storage.artifact import ArtifactFolder
from sortednet_cli.storage.files import read_json
from sortednet_cli.storage.first_weights import TORCHVISION, find_torchvision_weights
from sortednet_cli.storage.gguf import find_gguf
from sortednet_cli.storage.manifest import ArtifactManifest
from sortednet_cli.storage.pretrained import find_pretrained, open_pretrained
from sortednet_cli.storage.run import RunFolder
from sortednet_cli.storage.shards import CONFIG

_PACKAGE = "package:"
_FACTORY = re.compile(r"[\w.]+:\w+")
_OF_TORCHVISION = "sortednet_cli.families.torchvision."
_FROM_DATA = ("num_classes", "in_chans", "img_size")
"""Arguments that a stored configuration holds, and that follow from the data."""

_JSON: Mapping[type, str] = {str: "text", dict: "table", list: "list"}

_DECLARE = (
    "another package can declare it (entry point sortednet.families), or give a factory that builds"
    " it, as package.module:function"
)


@dataclass(frozen=True)
class Found:
    """A model that a spec can train.

    Attributes:
        what: what it is, for people.
        table: the entries of the spec's table `[model]`.
        stock: the configuration that comes with pretrained weights.
        folder: the folder of its tokenizer.
        image_size: the size of the images that it is made for, if it has one.
        weights: pretrained weights that it could start from instead of fresh ones.
    """

    what: str
    table: Mapping[str, Any]
    stock: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    image_size: int | None = None
    weights: str | None = None

    @property
    def family(self) -> str:
        return str(self.table["family"])

    @property
    def is_pretrained(self) -> bool:
        return "pretrained" in self.table


def find_model(name: str, allowed: Collection[str]) -> Found:
    """Find out what a name stands for.

    Args:
        allowed: factories that may run, as `MODULE:NAME`.

    Raises:
        RequestError: nothing is known by that name, or what is there cannot be cut.
        WorkError: the hub cannot be reached.
    """
    if _FACTORY.fullmatch(name) and not name.startswith((_PACKAGE, TORCHVISION)):
        check_allowed(name, allowed)
        return Found(f"the factory {name}", {"family": "custom", "factory": name})
    try:
        if name.startswith(TORCHVISION):
            return _of_torchvision_weights(name)
        place = find_pretrained(name)
        if place is None and (named := _of_library(name)) is not None:
            return named
        kept = name if place is None or name.startswith(_PACKAGE) else str(place)
        return _of_place(kept, place or open_pretrained(name).folder)
    except (RequestError, WorkError) as error:
        text = str(error).replace(f"model.pretrained = {name!r}", name).rstrip(".")
        if isinstance(error, WorkError):
            text += (
                f"; without a network, name a folder that holds its {CONFIG}, model.safetensors and"
                " tokenizer"
            )
            if "/" not in name and not timm_models():
                text += f"; timm's names are known with: {install_line('timm')}"
        raise type(error)(text.replace("model.pretrained: ", "")) from error


def _of_torchvision_weights(name: str) -> Found:
    weights = find_torchvision_weights(name.removeprefix(TORCHVISION))
    family = type(weights).__name__.removesuffix("_Weights").lower()
    if family not in own_families():
        raise RequestError(f"{name}: torchvision's {family} is none of {listed(_torchvision())}")
    return Found(f"torchvision's {family}, pretrained", {"family": family, "pretrained": name})


def _torchvision() -> list[str]:
    facts = own_families().values()
    return [each.name for each in facts if each.implementation.startswith(_OF_TORCHVISION)]


def _of_library(name: str) -> Found | None:
    """Find a model by the name that torchvision or timm gives it; None for a name on the hub."""
    if name in _torchvision():
        import torchvision

        known = torchvision.models.get_model_weights(name).DEFAULT
        weights = f"{TORCHVISION}{type(known).__name__}.{known.name}"
        return Found(f"torchvision's {name}", {"family": name}, weights=weights)
    if name in family_names():
        raise RequestError(
            f"{name} is a family, not a model: name a folder or hub name of one, or start from a"
            " preset (see: sortednet presets)"
        )
    names = timm_models()
    if name.partition(".")[0] in names:
        import timm

        known = timm.list_models(f"{name.partition('.')[0]}.*", pretrained=True)
        if "." in name and name not in known:
            raise RequestError(f"timm has no weights {name}: it has {shortened(known)}")
        settings: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
        table, size = {"family": "timm", "name": name}, settings.input_size[1]
        return Found(f"timm's {name}", table, image_size=size, weights=settings.hf_hub_id)
    near = difflib.get_close_matches(name, [*_torchvision(), *names], n=3, cutoff=0.75)
    if near and "/" not in name:
        raise RequestError(
            f"no model is called {name}: the nearest names are {listed(near)}; a folder or hub name"
            " is taken too"
        )
    return None


def _of_place(name: str, place: Path) -> Found:
    if (place / "run.json").is_file():
        return _of_run(place)
    if ArtifactFolder.is_one(place):
        manifest = ArtifactFolder.open(place).manifest()
        family, config = manifest.root.family, read_json(place / CONFIG)
        if family_facts(family).pretrained == "weights":
            return _of_artifact(place, family, config, manifest)
    elif place.suffix == ".py":
        module = place.stem
        raise RequestError(
            f"{name} is code: name the function or class that builds the model, as {module}:NAME,"
            f" and allow it: --allow-factory {module}:NAME"
        )
    elif find_gguf(place) is None and not (place / CONFIG).is_file():
        held = place.name if place.is_file() else shortened(sorted(f.name for f in place.glob("*")))
        raise RequestError(
            f"{place} does not say what it is: there is {held}, but no {CONFIG}, run, artifact or"
            " single GGUF file; to use weights alone, name their network and set model.pretrained"
            " in the spec"
        )
    opened = open_pretrained(str(place))
    if "model_type" in opened.config:
        return _of_transformers(name, opened.config, opened.folder)
    if "architecture" in opened.config:
        return _of_timm(name, opened.config)
    raise RequestError(
        f"{place / CONFIG} names neither a model_type, as transformers does, nor an architecture,"
        f" as timm does; {_DECLARE}"
    )


def _of_transformers(name: str, config: Mapping[str, Any], folder: Path) -> Found:
    known = {each.name: each for each in architectures()}
    kind, own = _entry(config, "model_type", ""), class_of(config)
    if kind not in known:
        raise RequestError(
            f"{name} is a {own or 'model'} of transformers, whose model_type {kind!r} cannot be"
            f" cut: the families are {listed(known)}; {_DECLARE}"
        )
    table = {"family": kind, "pretrained": name}
    size = config.get("image_size") if known[kind].inputs == "image" else None
    return Found(f"{own or kind} of transformers", table, config, folder, size)


def _of_timm(name: str, config: Mapping[str, Any]) -> Found:
    own, arguments = _entry(config, "architecture", ""), _entry(config, "model_args", {})
    given = {key: value for key, value in arguments.items() if key not in _FROM_DATA}
    table = {"family": "timm", "name": own, "config": given, "pretrained": name}
    size = _entry(_entry(config, "pretrained_cfg", {}), "input_size", [None])[-1]
    return Found(f"timm's {own}, pretrained", table, image_size=size)


def _entry(config: Mapping[str, Any], key: str, default: Any) -> Any:
    """Return an entry of a stored configuration; RequestError if it is of another type."""
    value = config.get(key) or default
    if not isinstance(value, type(default)):
        raise RequestError(f"{CONFIG}: {key} must be a {_JSON[type(default)]}")
    return value


def _of_run(place: Path) -> Found:
    run = RunFolder.open(place)
    run.require_finished()
    model = run.spec().model
    if family_facts(model.family).pretrained == "folder":
        raise RequestError(
            f"{place} is a run on texts: to start from one of its models, extract it first and name"
            f" the artifact: sortednet extract {as_word(place)}"
        )
    size = getattr(run.manifest().data, "image_size", None)
    table = {**_stated(model), "pretrained": str(place)}
    return Found(f"the {model.family} of {place.name}, a run", table, image_size=size)


def _of_artifact(
    place: Path, family: str, config: Mapping[str, Any], manifest: ArtifactManifest
) -> Found:
    if family == "timm":
        return _of_timm(str(place), config)
    arguments = {key: value for key, value in config.items() if key not in _FROM_DATA}
    table = {"family": family, **manifest.root.declaration}
    table["config"] = _entry(config, "arguments", {}) if family == "custom" else arguments
    stated = {**_stated(ModelSpec.model_validate(table)), "pretrained": str(place)}
    size = getattr(manifest.data, "image_size", None)
    return Found(f"the {family} of {place.name}, an artifact", stated, image_size=size)


def _stated(model: ModelSpec) -> dict[str, Any]:
    """The entries that say what a network is, without those of its first weights."""
    keys = {"family", "name", "config", "factory", "axes", "blocks", "fused"}
    return model.model_dump(mode="json", include=keys, exclude_defaults=True)


def architecture_of(found: Found) -> Architecture | None:
    """Return the declaration of a model of transformers."""
    facts = family_facts(found.family)
    return facts if isinstance(facts, Architecture) else None
