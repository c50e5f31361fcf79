"""Roles of the dimensions of stock tensors, for ordering units by importance. No torch."""

from __future__ import annotations

import re

from sortednet_cli.errors import RequestError

Roles = tuple[tuple[str, tuple[str, ...]], ...]
"""Pairs of a pattern for the end of a tensor's name and the role of each dimension; the first
match applies. A role is `heads`, `ffn`, `hidden`, `embedding`, or empty for dimensions that stay in
order. Units of an embedding are hidden units if both have the same number."""

NORMS_OF_A_HEAD: Roles = ((r"self_attn\.[qk]_norm\.weight$", ("",)),)
"""Norms of queries and keys over the features of one head, which all heads share."""

NORMS_OF_ALL_HEADS: Roles = ((r"self_attn\.[qk]_norm\.weight$", ("heads",)),)
"""Norms of queries and keys over the features of all heads together."""

_HEAD_ROWS, _HIDDEN_ROWS = ("heads", "hidden"), ("hidden", "heads")

DECODER_ROLES: Roles = (
    (r"self_attn\.[qkv]_proj\.weight$", _HEAD_ROWS),
    (r"self_attn\.[qkv]_proj\.bias$", ("heads",)),
    (r"self_attn\.o_proj\.weight$", _HIDDEN_ROWS),
    (r"mlp\.(gate|up)_proj\.weight$", ("ffn", "hidden")),
    (r"mlp\.(gate|up)_proj\.bias$", ("ffn",)),
    (r"mlp\.down_proj\.weight$", ("hidden", "ffn")),
    (r"(o_proj|down_proj)\.bias$", ("hidden",)),
    # Named whole: norms of queries and keys count other units.
    (r"(model\.norm|\.(input|(pre|post)_(attention|feedforward))_layernorm)\.weight$", ("hidden",)),
    (r"(embed_tokens|lm_head|score)\.weight$", ("", "hidden")),
)

ENCODER_ROLES: Roles = (
    (r"attention\.self\.(query|key|value)\.weight$", _HEAD_ROWS),
    (r"attention\.self\.(query|key|value)\.bias$", ("heads",)),
    (r"attention\.output\.dense\.weight$", _HIDDEN_ROWS),
    (r"intermediate\.dense\.weight$", ("ffn", "hidden")),
    (r"intermediate\.dense\.bias$", ("ffn",)),
    (r"layer\.\d+\.output\.dense\.weight$", ("hidden", "ffn")),
    (r"(pooler|transform|classifier|lm_head)\.dense\.weight$", ("hidden", "hidden")),
    (r"(output|pooler|transform|classifier|lm_head)\.dense\.bias$", ("hidden",)),
    (r"(LayerNorm|layer_norm)\.(weight|bias)$", ("hidden",)),
    (r"(embeddings|decoder|classifier|out_proj)\.weight$", ("", "hidden")),
    (r"(decoder|classifier|out_proj|predictions|lm_head)\.bias$", ("",)),
)


DISTILBERT_ROLES: Roles = (
    (r"attention\.[qkv]_lin\.weight$", _HEAD_ROWS),
    (r"attention\.[qkv]_lin\.bias$", ("heads",)),
    (r"attention\.out_lin\.weight$", _HIDDEN_ROWS),
    (r"ffn\.lin1\.weight$", ("ffn", "hidden")),
    (r"ffn\.lin1\.bias$", ("ffn",)),
    (r"ffn\.lin2\.weight$", ("hidden", "ffn")),
    (r"(out_lin|lin2|vocab_transform|pre_classifier)\.bias$", ("hidden",)),
    (r"(vocab_transform|pre_classifier)\.weight$", ("hidden", "hidden")),
    (r"(LayerNorm|layer_norm)\.(weight|bias)$", ("hidden",)),
    (r"(embeddings|vocab_projector|^classifier)\.weight$", ("", "hidden")),
    (r"(vocab_projector|^classifier)\.bias$", ("",)),
)

ELECTRA_ROLES: Roles = (
    (r"embeddings_project\.weight$", ("hidden", "embedding")),
    (r"embeddings_project\.bias$", ("hidden",)),
    (r"electra\.embeddings\.LayerNorm\.(weight|bias)$", ("embedding",)),
    (r"generator_predictions\.dense\.weight$", ("embedding", "hidden")),
    (r"generator_predictions\.(dense\.bias|LayerNorm\.(weight|bias))$", ("embedding",)),
    (r"(electra\.embeddings\.\w+|generator_lm_head)\.weight$", ("", "embedding")),
    *ENCODER_ROLES,
)

GPT2_ROLES: Roles = (  # weights are [in, out]
    (r"attn\.c_attn\.weight$", _HIDDEN_ROWS),
    (r"attn\.c_attn\.bias$", ("heads",)),
    (r"attn\.c_proj\.weight$", _HEAD_ROWS),
    (r"mlp\.c_fc\.weight$", ("hidden", "ffn")),
    (r"mlp\.c_fc\.bias$", ("ffn",)),
    (r"mlp\.c_proj\.weight$", ("ffn", "hidden")),
    (r"c_proj\.bias$", ("hidden",)),
    (r"ln_(1|2|f)\.(weight|bias)$", ("hidden",)),
    (r"(wte|wpe|lm_head|score)\.weight$", ("", "hidden")),
)

MODERNBERT_ROLES: Roles = (
    (r"attn\.Wqkv\.weight$", _HEAD_ROWS),
    (r"attn\.Wqkv\.bias$", ("heads",)),
    (r"attn\.Wo\.weight$", _HIDDEN_ROWS),
    (r"mlp\.Wi\.weight$", ("ffn", "hidden")),
    (r"mlp\.Wi\.bias$", ("ffn",)),
    (r"mlp\.Wo\.weight$", ("hidden", "ffn")),
    (r"norm\.(weight|bias)$", ("hidden",)),
    (r"head\.dense\.weight$", ("hidden", "hidden")),
    (r"(Wo|head\.dense)\.bias$", ("hidden",)),
    (r"(tok_embeddings|decoder|classifier)\.weight$", ("", "hidden")),
    (r"(decoder|classifier)\.bias$", ("",)),
)

VIT_ROLES: Roles = (
    (r"attention\.[qkv]_proj\.weight$", _HEAD_ROWS),
    (r"attention\.[qkv]_proj\.bias$", ("heads",)),
    (r"attention\.o_proj\.weight$", _HIDDEN_ROWS),
    (r"mlp\.fc1\.weight$", ("ffn", "hidden")),
    (r"mlp\.fc1\.bias$", ("ffn",)),
    (r"mlp\.fc2\.weight$", ("hidden", "ffn")),
    (r"(o_proj|fc2)\.bias$", ("hidden",)),
    (r"layernorm(_before|_after)?\.(weight|bias)$", ("hidden",)),
    (r"(cls_token|position_embeddings)$", ("", "", "hidden")),
    (r"patch_embeddings\.projection\.weight$", ("hidden", "", "", "")),
    (r"patch_embeddings\.projection\.bias$", ("hidden",)),
    (r"^classifier\.weight$", ("", "hidden")),
    (r"^classifier\.bias$", ("",)),
)


def roles_of(name: str, table: Roles) -> tuple[str, ...]:
    """Return the role of each dimension of a tensor.

    Raises:
        RequestError: the table has no entry for the tensor.
    """
    for pattern, roles in table:
        if re.search(pattern, name):
            return roles
    raise RequestError(f"model.reorder: the roles of the dimensions of {name} are not declared")
