"""The weights of a `transformers` decoder, layer by layer, as `IncrementalDecoder` multiplies with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
FUSE_BELOW = 200_000_000
"""Models with fewer parameters get fused, transposed copies of their weights: a quarter faster on a CPU."""


@dataclass
class Layer:
    """One decoder layer's weights, matrices as (in, out), and `past`, its kept values.

    `past` is (2, R, K, T, D), keys and values, for attention and (R, taps - 1 + T, H), zeros first, for convolution.
    """

    norm_in: torch.Tensor
    norm_mid: torch.Tensor
    entry: tuple[torch.Tensor, ...]  # q, k, v or the convolution's B, C, x; one matrix where fused
    entry_bias: tuple[torch.Tensor, ...]
    exit: torch.Tensor
    exit_bias: torch.Tensor | None
    gate_up: tuple[torch.Tensor, ...]
    gate_up_bias: tuple[torch.Tensor, ...]
    down: torch.Tensor
    down_bias: torch.Tensor | None
    head_norm: torch.Tensor | None = None  # (N + K, D)
    taps: torch.Tensor | None = None  # (taps, H), None for attention
    taps_bias: torch.Tensor | None = None
    past: Any = None


def obstacle(model: Any) -> str | None:
    """Why this `transformers` model cannot be decoded here, or None when it can."""
    config = model.config
    kind = getattr(config, "model_type", "")
    if kind != "lfm2" and kind not in LLAMA_LIKE:
        return f"architecture {kind!r}"
    if getattr(config, "hidden_act", "silu") != "silu":
        return f"activation {config.hidden_act!r}"
    windows = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "conv"}
    if windows or (kind == "mistral" and config.sliding_window):
        return "sliding-window attention"
    rope = getattr(model.get_decoder().rotary_emb, "rope_type", "default")
    if rope not in ("default", "linear", "llama3", "yarn"):
        return f"position encoding {rope!r}"
    return _weights_obstacle(model)


def _weights_obstacle(model: Any) -> str | None:
    import torch

    if len({weight.device for weight in model.parameters()}) != 1:
        return "weights on several devices"
    plain = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Embedding)
    for name, module in model.named_modules():
        if "weight" in module._parameters and not (type(module) in plain or type(module).__name__.endswith("RMSNorm")):
            return f"module {name} is a {type(module).__name__}"
        if getattr(module, "base_layer", None) is not None:
            return f"module {name} carries an adapter"
    return None


def read_layers(model: Any) -> list[Layer]:
    """Every layer's weights as they are now, without `past`. Views of the model's own where copies would be large."""
    fuse = fuses(model)
    heads = model.config.num_attention_heads
    kv_heads = model.config.num_key_value_heads or heads
    return [_read_layer(module, fuse, heads, kv_heads) for module in model.get_decoder().layers]


def fuses(model: Any) -> bool:
    """Whether the model is small enough for fused, transposed copies."""
    return bool(sum(weight.numel() for weight in model.parameters()) < FUSE_BELOW)


def _read_layer(module: Any, fuse: bool, heads: int, kv_heads: int) -> Layer:
    lfm2 = hasattr(module, "operator_norm")
    if lfm2:
        feed = module.feed_forward
        norms, gates, down = (module.operator_norm, module.ffn_norm), (feed.w1, feed.w3), feed.w2
    else:
        norms = (module.input_layernorm, module.post_attention_layernorm)
        gates, down = (module.mlp.gate_proj, module.mlp.up_proj), module.mlp.down_proj
    mixer = module.self_attn if hasattr(module, "self_attn") else module.conv
    entries = (mixer.q_proj, mixer.k_proj, mixer.v_proj) if hasattr(mixer, "q_proj") else (mixer.in_proj,)
    exit_ = mixer.o_proj if hasattr(mixer, "o_proj") else mixer.out_proj
    entry, entry_bias = _join(entries, fuse)
    gate_up, gate_up_bias = _join(gates, fuse)
    layer = Layer(
        norm_in=norms[0].weight.detach(),
        norm_mid=norms[1].weight.detach(),
        entry=entry,
        entry_bias=entry_bias,
        exit=matrix(exit_.weight, fuse),
        exit_bias=_plain(exit_.bias),
        gate_up=gate_up,
        gate_up_bias=gate_up_bias,
        down=matrix(down.weight, fuse),
        down_bias=_plain(down.bias),
        head_norm=_head_norm(mixer, heads, kv_heads),
    )
    if hasattr(mixer, "conv"):
        layer.taps = mixer.conv.weight.detach()[:, 0].t().contiguous()  # (taps, H)
        layer.taps_bias = _plain(mixer.conv.bias)
    return layer


def _head_norm(mixer: Any, heads: int, kv_heads: int) -> torch.Tensor | None:
    import torch

    norms = [getattr(mixer, name, None) for name in ("q_layernorm", "k_layernorm", "q_norm", "k_norm")]
    weights = [norm.weight.detach() for norm in norms if norm is not None]
    if not weights:
        return None
    query, key = weights
    return torch.cat([query.expand(heads, -1), key.expand(kv_heads, -1)])


def matrix(weight: torch.Tensor, copy: bool) -> torch.Tensor:
    """A Linear's weight (out, in) as (in, out)."""
    turned = weight.detach().t()
    return turned.contiguous() if copy else turned


def _plain(bias: torch.Tensor | None) -> torch.Tensor | None:
    return None if bias is None else bias.detach()


def _join(modules: Sequence[Any], fuse: bool) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Matrices and biases of projections that read the same input, as one matrix where `fuse`."""
    import torch

    matrices = tuple(module.weight.detach().t() for module in modules)
    biases = tuple(module.bias.detach() for module in modules if module.bias is not None)
    if not fuse:
        return matrices, biases
    return (torch.cat(matrices, 1).contiguous(),), ((torch.cat(biases),) if biases else ())
