"""Declarations of transformers' architectures. No torch.

Heads keep their size, and groups of query heads their ratio, so that the heads of every sub-model
are the first heads of the root. Depth keeps the first layers. The state after each layer is an
exit, which the shared norm and head turn into logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from sortednet_cli.errors import RequestError, listed
from sortednet_cli.families.fused import Fused
from sortednet_cli.families.transformers.pooling import Pool, last_token
from sortednet_cli.families.transformers.roles import DECODER_ROLES, ENCODER_ROLES, Roles
from sortednet_cli.spec.families import CAUSAL_TASKS, FamilyFacts, family_facts, family_names

Tail = Callable[[Any, Any], Any]
"""Computes logits from a module and its states, [N, C] or [B, T, C]."""

FusedParts = tuple[tuple[int | str, ...], int]
"""The parts of a fused tensor, by their proportions or the entries that say them, and the dimension
of a weight along which they lie."""

Embed = Callable[[Any, Any, Any], Any]
"""Computes the states [n, C] before the first layer from a module, token ids [n] and their
positions [n]."""

LOADERS = {
    ("text", "classification"): "AutoModelForSequenceClassification",
    ("image", "classification"): "AutoModelForImageClassification",
    ("text", "masked-lm"): "AutoModelForMaskedLM",
    **{("text", task): "AutoModelForCausalLM" for task in CAUSAL_TASKS},
}
"""The class that loads an artifact, by kind of inputs and task."""

SCALES = {
    "width": ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
    "heads": ("num_attention_heads", "num_key_value_heads"),
    "ffn": ("intermediate_size",),
    "hidden": ("hidden_size",),
}
"""For each axis, the entries that it scales in most configurations."""

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")

TIED_HEADS = dict.fromkeys(
    ("heads", "hidden"),
    "the stock class divides hidden size by the number of heads to get the size of a head, so"
    " neither can shrink alone; use width, which shrinks both",
)


@dataclass(frozen=True)
class Head:
    """A stock class: the model with one head.

    Attributes:
        class_name: name of the class in transformers. Names from files are only compared with it.
        parts: paths of the head's modules that hold tensors.
        tail: computes logits from the last layer's states.
        pool: selects the state that stands for a whole sample; None if every token is scored.
    """

    class_name: str
    parts: tuple[str, ...]
    tail: Tail
    pool: Pool | None = None


@dataclass(frozen=True, kw_only=True)
class Architecture(FamilyFacts):
    """The layout of the stock classes of one `model_type`, and the entries that axes scale.

    Attributes:
        name: the family's name, which is the `model_type` of its stock configuration.
        base: the attribute that holds the model without its head.
        layers: path of the list of layers.
        parts: paths of the other modules that hold tensors, without the head's.
        heads: the stock class for each task.
        roles: what each dimension of a tensor counts, for ordering by importance.
        scales: for each axis, the entries of the stock configuration that it scales. Entries that
            are absent or null are skipped. Roles that no axis scales alone have an entry too.
        layer_count: the entry that counts layers.
        layer_lists: entries that hold one value per layer, which depth cuts.
        position_count: the entry that counts positions.
        defaults: entries that differ from the stock class's own defaults.
        derived: entries that the stock class computes if they are absent or null.
        fused: fused tensors, by a pattern of their or their module's name.
        embed: computes a decoder's states before its first layer.
        buffers_follow_sizes: whether a non-persistent buffer depends on the sizes that axes scale,
            so that each sub-model has its own.
        has_head_size: whether the size of a head is an entry (`head_dim`); if not, it is hidden
            size divided by the number of heads.
        positions_follow_padding: whether positions begin after the id of the padding token.
        accepts: other architectures that `model.config.model_type` may name in this family.
    """

    base: str
    layers: str
    parts: tuple[str, ...]
    heads: Mapping[str, Head]
    roles: Roles
    scales: Mapping[str, tuple[str, ...]]
    layer_count: str = "num_hidden_layers"
    layer_lists: tuple[str, ...] = ("layer_types",)
    position_count: str = "max_position_embeddings"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    fused: Mapping[str, FusedParts] = field(default_factory=dict)
    embed: Embed | None = None
    buffers_follow_sizes: bool = False
    has_head_size: bool = False
    positions_follow_padding: bool = False
    accepts: tuple[str, ...] = ()

    def fused_tensors(self, config: Mapping[str, Any]) -> dict[str, Fused]:
        """Return the fused tensors of a network, with the proportions of its configuration."""
        found = {}
        for pattern, (parts, dim) in self.fused.items():
            sizes = [config[part] if isinstance(part, str) else part for part in parts]
            found[pattern] = Fused(tuple(size // gcd(*sizes) for size in sizes), dim)
        return found

    def first_position(self, pad_id: int) -> int:
        """Return the position of the first token."""
        return pad_id + 1 if self.positions_follow_padding else 0

    def member(self, model_type: object) -> Architecture:
        """Return the architecture of a `model_type`.

        Raises:
            RequestError: the family does not accept this type.
        """
        if model_type == self.name:
            return self
        if model_type not in self.accepts:
            legal = listed([self.name, *self.accepts])
            raise RequestError(f"model_type: {self.name} accepts {legal}, not {model_type!r}")
        facts = family_facts(str(model_type))
        assert isinstance(facts, Architecture)
        return facts


def architectures() -> Iterator[Architecture]:
    """Yield every architecture: this package's own, then those of other packages."""
    for name in family_names():
        facts = family_facts(name)
        if isinstance(facts, Architecture):
            yield facts


def encoder(name: str, *, base: str, heads: Mapping[str, Head], **changes: Any) -> Architecture:
    """Declare an encoder in the form of BERT.

    Args:
        name: its `model_type`.
        base: the attribute of the stock classes that holds the model without its head.
        heads: the stock class for each task.
        changes: attributes of `Architecture` that differ from the standard form.
    """
    standard = {
        "axes": ("width", "depth", "ffn"),
        "refused": TIED_HEADS,
        "layers": f"{base}.encoder.layer",
        "parts": (f"{base}.embeddings",),
        "roles": ENCODER_ROLES,
    }
    return _architecture(name, heads, {"base": base, **standard, **changes})


def decoder(
    name: str,
    class_name: str,
    classifier: str | None = None,
    *,
    tail: Tail | None = None,
    normed: Tail | None = None,
    **changes: Any,
) -> Architecture:
    """Declare a decoder in the form of LLaMA.

    Args:
        name: its `model_type`.
        class_name: the stock class that predicts the next token.
        classifier: the stock class that classifies a text by its last token, if there is one.
        tail: computes logits of tokens, if they are not those of `lm_head`.
        normed: computes the states that both heads take, if they are not those of `model.norm`.
        changes: attributes of `Architecture` that differ from the standard form.
    """
    normed = normed or _normed

    def tokens(module: Any, states: Any) -> Any:
        return module.lm_head(normed(module, states))

    def classes(module: Any, states: Any) -> Any:
        return module.score(normed(module, states))

    heads = dict.fromkeys(CAUSAL_TASKS, Head(class_name, ("lm_head",), tail or tokens))
    if classifier:
        heads["classification"] = Head(classifier, ("score",), classes, last_token)
    standard = {
        "axes": ("width", "depth", "heads", "ffn", "hidden"),
        "base": "model",
        "layers": "model.layers",
        "parts": ("model.embed_tokens", "model.norm"),
        "roles": DECODER_ROLES,
        "has_head_size": True,
        "embed": embed_tokens,
    }
    return _architecture(name, heads, {**standard, **changes})


def next_tokens(module: Any, states: Any) -> Any:
    """Compute the logits of a decoder in the form of LLaMA."""
    return module.lm_head(_normed(module, states))


def embed_tokens(module: Any, ids: Any, positions: Any) -> Any:
    """Embed the tokens of a decoder in the form of LLaMA, whose attention sees the positions."""
    return module.model.embed_tokens(ids)


def _normed(module: Any, states: Any) -> Any:
    return module.model.norm(states)


def _architecture(name: str, heads: Mapping[str, Head], others: Mapping[str, Any]) -> Architecture:
    standard: dict[str, Any] = {
        "implementation": "sortednet_cli.families.transformers.family:TransformerFamily",
        "depth_orders": ("prefix",),
        "inputs": "text",
        "tasks": tuple(heads),
        "sizes": _SIZES,
        "scales": SCALES,
        "pretrained": "folder",
        "can_shard": True,
        "norms_are_per_channel": False,
    }
    return Architecture(name=name, heads=heads, **{**standard, **others})
