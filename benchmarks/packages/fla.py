"""Operations of flash-linear-attention: chunks, scans, recurrences and attention, each forward and backward.

Most take queries, keys, values, gates: which shapes they have is said once for each name, and in `TABLE` what differs.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from functools import partial
from typing import Any
from unittest.mock import Mock, patch

import torch
from fla.modules import fused_bitlinear as bitlinear
from fla.modules import token_shift
from fla.modules.activations import ops as act
from fla.modules.causal_conv1d import ops as conv
from fla.modules.fused_cross_entropy import ops as entropy
from fla.modules.fused_kl_div import ops as kl
from fla.modules.fused_linear_cross_entropy import ops as linear_entropy
from fla.modules.grpo import ops as grpo
from fla.modules.norm import fused_norm_gate as norm_gate
from fla.modules.norm import l2norm, layernorm
from fla.modules.norm import layernorm_gated as gated_norm
from fla.modules.rotary import ops as rotations
from fla.ops import generalized_delta_rule as delta
from fla.ops.attn import decoding as attn_decoding
from fla.ops.attnres import fused
from fla.ops.common import chunk_h_parallel, chunk_h_split, chunk_o
from fla.ops.cp import chunk_bwd as cp_bwd
from fla.ops.cp import chunk_fwd as cp_fwd
from fla.ops.cp import chunk_merge as cp_merge
from fla.ops.cyfa import fused_recurrent as cyfa
from fla.ops.gated_oja_rule import chunk_kkt as oja_kkt
from fla.ops.gsa import fused_recurrent as gsa
from fla.ops.log_linear_attn import chunk as log_linear
from fla.ops.mesa_net import chunk_h_kv_intra_bwd_separate as mesa_bwd
from fla.ops.mesa_net import decoding_one_step as mesa
from fla.ops.parallax import decode as parallax
from fla.ops.path_attn import parallel as path
from fla.ops.rwkv7 import channel_mixing, fused_addcmul, fused_k_update
from fla.ops.utils import cumsum, index, pack
from fla.ops.utils.logsumexp import logsumexp_fwd
from fla.ops.utils.matmul import addmm, matmul
from fla.ops.utils.sinkhorn import ops as sinkhorn
from fla.ops.utils.solve_tril import solve_tril
from fla.ops.wall_attn import decode as wall
from torch.nn.functional import logsigmoid, normalize

from packages import backward, tensor

# What it needs for masks is in another distribution.
sys.modules.update({"fla.layers": Mock(), "fla.layers.utils": Mock()})
deltaformers = importlib.import_module("fla.ops.deltaformer.parallel")

_BATCH, _LENGTH, _HEADS, _WIDTH = 2, 128, 2, 64
_TOKENS = (_BATCH, _LENGTH)
_QUERY = (*_TOKENS, _HEADS, _WIDTH)
_SCALAR = (*_TOKENS, _HEADS)


def _query(*shape: int) -> Any:
    return tensor(*(shape or _QUERY), scale=0.5)


def _unit(*shape: int) -> Any:
    """Of length one, along the last dimension."""
    return normalize(tensor(*(shape or _QUERY), grad=False).float(), dim=-1).bfloat16().requires_grad_()


def _decay(*shape: int, dtype: str = "float32") -> Any:
    """In log space, and so below 0."""
    return (
        (logsigmoid(tensor(*shape, dtype="float32", grad=False)) / 8)
        .to(getattr(torch, dtype))
        .requires_grad_()
    )


def _share(*shape: int, dtype: str = "bfloat16") -> Any:
    """From 0 to 1."""
    return (
        torch.sigmoid(tensor(*shape, dtype="float32", grad=False)).to(getattr(torch, dtype)).requires_grad_()
    )


def _lengths() -> Any:
    """Of three sequences one after the other, cumulated."""
    return torch.tensor([0, 40, 104, 256], dtype=torch.int32, device="cuda").long()


_DEFAULT = {
    **dict.fromkeys(("q", "r", "v"), _query),
    **dict.fromkeys(("k", "w", "p"), _unit),
    "beta": partial(_share, *_SCALAR),
    "g": partial(_decay, *_SCALAR),
    "gk": partial(_decay, *_QUERY),
    "gv": partial(_decay, *_QUERY),
}

_vectors = partial(_decay, *_QUERY)
_flat = partial(_query, *_TOKENS, 256)
_one = {
    **dict.fromkeys("qv", partial(_query, 1, 256, _HEADS, _WIDTH)),
    "k": partial(_unit, 1, 256, _HEADS, _WIDTH),
}
_groups = {"q": partial(_query, *_TOKENS, 4, _WIDTH)}
_atk = {"g_atk": partial(_decay, *_SCALAR), "beta_atk": partial(_share, *_SCALAR)}
_gates = {
    "A_log": partial(tensor, _HEADS, dtype="float32"),
    "dt_bias": partial(tensor, _HEADS * _WIDTH, dtype="float32"),
}


def _negated() -> Any:
    return -_unit().detach()


# name: (module, function, parameters that are given by their usual shapes, others and how they are made)
_OPERATIONS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "abc": ("abc", "chunk_abc", "q k v", {"s": partial(_query, *_TOKENS, _HEADS, 32)}),
    "attention": ("attn", "parallel_attn", "k v", _groups),
    "attention_gated": ("attn", "parallel_attn", "q k v g", {}),
    "forgetting": ("forgetting_attn", "parallel_forgetting_attn", "q k v g", {}),
    "based_chunk": (
        "based",
        "fused_chunk_based",
        "v",
        dict.fromkeys("qk", partial(_query, *_TOKENS, _HEADS, 16)),
    ),
    "based": ("based", "parallel_based", "v", dict.fromkeys("qk", partial(_query, *_TOKENS, _HEADS, 16))),
    "rebased": (
        "rebased.parallel",
        "parallel_rebased",
        "v",
        dict.fromkeys("qk", partial(_query, *_TOKENS, _HEADS, 16)),
    ),
    "comba": ("comba", "chunk_comba", "q k v p g beta", {}),
    "comba_recurrent": ("comba", "fused_recurrent_comba", "q k v p g beta", {}),
    "delta_rule": ("delta_rule", "chunk_delta_rule", "q k v beta", {"use_qk_l2norm_in_kernel": True}),
    "delta_rule_recurrent": ("delta_rule", "fused_recurrent_delta_rule", "q k v beta", {}),
    "gated_delta_rule": (
        "gated_delta_rule",
        "chunk_gated_delta_rule",
        "q k v g beta",
        {"output_final_state": True},
    ),
    "gated_delta_rule_recurrent": (
        "gated_delta_rule",
        "fused_recurrent_gated_delta_rule",
        "q k v g beta",
        {},
    ),
    "gated_delta_product": (
        "gated_delta_product",
        "chunk_gated_delta_product",
        "q g",
        {
            "k": partial(_unit, _BATCH, 2 * _LENGTH, _HEADS, _WIDTH),
            "v": partial(_query, _BATCH, 2 * _LENGTH, _HEADS, _WIDTH),
            "beta": partial(_share, _BATCH, 2 * _LENGTH, _HEADS),
            "num_householder": 2,
        },
    ),
    "oja": ("gated_oja_rule", "chunk_gated_oja_rule", "q k v gv beta", {}),
    "oja_recurrent": ("gated_oja_rule", "fused_recurrent_gated_oja_rule", "q k v gv beta", {}),
    "gdn2": (
        "gdn2",
        "chunk_gdn2",
        "q k v",
        {"g": _vectors, "b": partial(_share, *_QUERY), "w": partial(_share, *_QUERY)},
    ),
    "gdn2_safe": (
        "gdn2",
        "chunk_gdn2",
        "q k v",
        {"g": _vectors, "b": partial(_share, *_QUERY), "w": partial(_share, *_QUERY), "safe_gate": True},
    ),
    "gdn2_recurrent": (
        "gdn2",
        "fused_recurrent_gdn2",
        "q k v",
        {"g": _vectors, "b": partial(_share, *_QUERY), "w": partial(_share, *_QUERY)},
    ),
    "dplr": ("generalized_delta_rule", "chunk_dplr_delta_rule", "q k v gk", {"a": _negated, "b": _unit}),
    "dplr_safe": (
        "generalized_delta_rule",
        "chunk_dplr_delta_rule",
        "q k v gk",
        {"a": _negated, "b": _unit, "safe_gate": True, "chunk_size": 16},
    ),
    "dplr_recurrent": (
        "generalized_delta_rule",
        "fused_recurrent_dplr_delta_rule",
        "q k v gk",
        {"a": _negated, "b": _unit},
    ),
    "iplr": ("generalized_delta_rule", "chunk_iplr_delta_rule", "q k v", {"a": _negated, "b": _unit}),
    "iplr_recurrent": (
        "generalized_delta_rule",
        "fused_recurrent_iplr_delta_rule",
        "q k v",
        {"a": _negated, "b": _unit},
    ),
    "gla": ("gla", "chunk_gla", "q k v", {"g": _vectors}),
    "gla_of_wide_heads": (
        "gla",
        "chunk_gla",
        "",
        {
            "q": partial(_query, 1, 64, 1, 512),
            "k": partial(_unit, 1, 64, 1, 512),
            "v": partial(_query, 1, 64, 1, 64),
            "g": partial(_decay, 1, 64, 1, 512),
        },
    ),
    "gla_of_lengths": (
        "gla",
        "chunk_gla",
        "",
        {**_one, "g": partial(_decay, 1, 256, _HEADS, _WIDTH), "cu_seqlens": _lengths},
    ),
    "gla_recurrent": ("gla", "fused_recurrent_gla", "q k v gk", {}),
    "gsa": (
        "gsa",
        "chunk_gsa",
        "q k v",
        dict.fromkeys("sg", partial(_decay, *_TOKENS, _HEADS, 32, dtype="bfloat16")),
    ),
    "gsa_recurrent": (
        "gsa",
        "fused_recurrent_gsa",
        "q k v",
        dict.fromkeys("sg", partial(_decay, *_TOKENS, _HEADS, 32, dtype="bfloat16")),
    ),
    "gsa_gate": ("gsa.gate", "fused_additive_gate", "", {"x": partial(_query, *_TOKENS, _HEADS, 32)}),
    "hgrn": ("hgrn", "chunk_hgrn", "", {"x": _flat, "g": partial(_decay, *_TOKENS, 256)}),
    "hgrn_recurrent": ("hgrn", "fused_recurrent_hgrn", "", {"x": _flat, "g": partial(_decay, *_TOKENS, 256)}),
    "kda": ("kda", "chunk_kda", "q k v beta", {"g": _vectors, "use_qk_l2norm_in_kernel": True}),
    "kda_gated": (
        "kda",
        "chunk_kda",
        "q k v beta",
        {"g": _query, **_gates, "use_gate_in_kernel": True, "safe_gate": True, "lower_bound": -5.0},
    ),
    "kda_recurrent": ("kda", "fused_recurrent_kda", "q k v beta", {"g": _vectors}),
    "kda_gate": ("kda.gate", "fused_kda_gate", "", {"g": _query, **_gates}),
    "gdn_gate": (
        "gated_delta_rule.gate",
        "fused_gdn_gate",
        "",
        {
            "g": partial(_query, *_SCALAR),
            **dict.fromkeys(("A_log", "dt_bias"), partial(tensor, _HEADS, dtype="float32")),
        },
    ),
    "gated_delta_rule_gated": (
        "gated_delta_rule",
        "chunk_gated_delta_rule",
        "q k v beta",
        {
            "g": partial(_query, *_SCALAR),
            **dict.fromkeys(("A_log", "dt_bias"), partial(tensor, _HEADS, dtype="float32")),
            "use_gate_in_kernel": True,
            "use_beta_sigmoid_in_kernel": True,
        },
    ),
    "lightnet": ("lightnet", "chunk_lightnet", "q k v", {}),
    "lightnet_recurrent": ("lightnet", "fused_recurrent_lightnet", "q k v", {}),
    "lightning": ("lightning_attn", "chunk_lightning_attn", "q k v", {"layer_idx": 1, "num_layers": 4}),
    "linear": ("linear_attn", "chunk_linear_attn", "q k v", {}),
    "linear_fused": ("linear_attn", "fused_chunk_linear_attn", "q k v", {}),
    "linear_recurrent": ("linear_attn", "fused_recurrent_linear_attn", "q k v", {}),
    "log_linear": (
        "log_linear_attn",
        "chunk_log_linear_attn",
        "q k v g",
        {"level_scales": partial(_share, *_TOKENS, _HEADS, 8)},
    ),
    "mesa": (
        "mesa_net",
        "chunk_mesa_net",
        "q k v g",
        {
            "beta": partial(_share, *_SCALAR, dtype="float32"),
            "lamb": partial(_share, _HEADS, _WIDTH, dtype="float32"),
            "max_CG_iteration": 5,
        },
    ),
    "nsa": (
        "nsa",
        "parallel_nsa",
        "",
        {
            "q": partial(_query, 1, 128, 16, 64),
            "k": partial(_query, 1, 128, 1, 64),
            "v": partial(_query, 1, 128, 1, 64),
            **dict.fromkeys(("g_cmp", "g_slc"), partial(_share, 1, 128, 16)),
            "block_counts": 4,
            "block_size": 32,
        },
    ),
    "parallax": ("parallax", "parallel_parallax", "q r k v", {}),
    "path": (
        "path_attn",
        "parallel_path_attn",
        "q k v",
        {
            "w": lambda: _unit().detach().float().requires_grad_(),
            "beta": partial(_share, *_SCALAR, dtype="float32"),
            "g": partial(_decay, *_SCALAR),
        },
    ),
    "precond_gated_delta_rule": (
        "precond_gated_delta_rule",
        "chunk_precond_gated_delta_rule",
        "q k v g beta",
        _atk,
    ),
    "precond_gated_delta_rule_recurrent": (
        "precond_gated_delta_rule",
        "fused_recurrent_precond_gated_delta_rule",
        "q k v g beta",
        _atk,
    ),
    "precond_kda": ("precond_kda", "chunk_precond_kda", "q k v beta", {**_atk, "g": _vectors}),
    "precond_kda_safe": (
        "precond_kda",
        "chunk_precond_kda",
        "q k v beta",
        {**_atk, "g": _vectors, "safe_gate": True, "lower_bound": -5.0},
    ),
    "precond_kda_recurrent": (
        "precond_kda",
        "fused_recurrent_precond_kda",
        "q k v beta",
        {**_atk, "g": _vectors},
    ),
    "retention": ("retention", "chunk_retention", "q k v", {}),
    "retention_fused": ("retention", "fused_chunk_retention", "q k v", {}),
    "retention_parallel": ("retention", "parallel_retention", "q k v", {}),
    "rwkv4": (
        "rwkv4",
        "fused_recurrent_rwkv4",
        "",
        {
            **dict.fromkeys("wu", partial(tensor, 256, dtype="float32")),
            **dict.fromkeys("kv", partial(tensor, *_TOKENS, 256, dtype="float32")),
            "state": partial(tensor, _BATCH, 3, 1, 256, dtype="float32"),
        },
    ),
    "rwkv6": ("rwkv6", "chunk_rwkv6", "r k v", {"w": _vectors, "u": partial(_query, _HEADS, _WIDTH)}),
    "rwkv6_recurrent": (
        "rwkv6",
        "fused_recurrent_rwkv6",
        "r k v",
        {"w": _vectors, "u": partial(_query, _HEADS, _WIDTH)},
    ),
    "rwkv6_of_wide_heads": (
        "rwkv6",
        "chunk_rwkv6",
        "",
        {
            **dict.fromkeys("rk", partial(_query, 1, 64, 1, 512)),
            "v": partial(_query, 1, 64, 1, 64),
            "w": partial(_decay, 1, 64, 1, 512),
            "u": partial(_query, 1, 512),
        },
    ),
    "rwkv7": ("rwkv7", "chunk_rwkv7", "r k v", {"w": _vectors, "a": _negated, "b": _unit}),
    "rwkv7_recurrent": (
        "rwkv7",
        "fused_mul_recurrent_rwkv7",
        "r k v",
        {"w": _vectors, "kk": _unit, "a": partial(_share, *_QUERY)},
    ),
    "simple_gla": ("simple_gla", "chunk_simple_gla", "q k v g", {}),
    "simple_gla_fused": ("simple_gla.fused_chunk", "fused_chunk_simple_gla", "q k v g", {}),
    "simple_gla_recurrent": ("simple_gla", "fused_recurrent_simple_gla", "q k v g", {}),
    "simple_gla_parallel": ("simple_gla", "parallel_simple_gla", "q k v g", {}),
    "stickbreaking": ("stickbreaking_attn", "parallel_stickbreaking_attn", "q k v", {}),
    "ttt": (
        "ttt",
        "chunk_ttt_linear",
        "q k v",
        {**dict.fromkeys("wb", partial(_query, _HEADS, _WIDTH)), "eta": partial(_share, *_SCALAR, 1)},
    ),
    "ttt_fused": (
        "ttt",
        "fused_chunk_ttt_linear",
        "q k v",
        {**dict.fromkeys("wb", partial(_query, _HEADS, _WIDTH)), "eta": partial(_share, *_SCALAR, 1)},
    ),
    "wall": ("wall_attn.parallel", "parallel_wall_attn", "q k v", {"g": _vectors}),
    "cyfa": (
        "cyfa",
        "chunk_cyfa",
        "q k v g beta",
        {
            "delta": partial(_share, *_SCALAR, dtype="float32"),
            "readout": partial(tensor, _HEADS, 31, 31, dtype="float32"),
            **dict.fromkeys(("q_norm_weight", "k_norm_weight"), partial(tensor, _WIDTH)),
            **dict.fromkeys(("q_norm_eps", "k_norm_eps"), 1e-6),
        },
    ),
    "attnres": (
        "attnres",
        "fused_attnres",
        "",
        {
            "query": partial(_query, 256),
            "residuals": lambda: [_flat() for _ in range(3)],
            "rms_weight": partial(_query, 256),
        },
    ),
    "sinkhorn": (
        "utils.sinkhorn.ops",
        "sinkhorn",
        "",
        {"logits": partial(tensor, 64, 4, 4, dtype="float32")},
    ),
    "mean_pooling": ("utils.pooling", "mean_pooling", "", {"x": _query, "chunk_size": 32}),
    "beta_sigmoid": ("common.gate", "fused_beta_sigmoid", "", {"x": partial(_query, *_SCALAR)}),
    "gate_correction": (
        "rwkv7.gate_output_correction",
        "gate_output_correction",
        "",
        {
            **dict.fromkeys(("o", "g"), partial(_query, *_TOKENS, 128)),
            **dict.fromkeys("rkv", _query),
            "r_k": partial(_query, _HEADS, _WIDTH),
        },
    ),
}


def _function(module: str, name: str) -> Any:
    """Imported when this module is: once for a rehearsal and what comes after it."""
    return getattr(
        importlib.import_module(module if module.startswith("fla.") else f"fla.ops.{module}"), name
    )


def _run(function: Any, usual: str, others: dict[str, Any]) -> None:
    made = {name: _DEFAULT[name]() for name in usual.split()}
    made.update((name, value() if callable(value) else value) for name, value in others.items())
    # The package refuses some of its kernels on Hopper with this Triton, whose code for them is wrong (its issue
    # 640). Here it is compared with itself.
    with patch.object(chunk_o, "IS_NVIDIA_HOPPER", False):
        results = function(**made)
        with suppress(NotImplementedError):  # some are for inference alone, and say so here
            backward(results)


OPERATIONS = {
    name: partial(_run, _function(module, function), usual, others)
    for name, (module, function, usual, others) in _OPERATIONS.items()
}


# ---- what takes more than a row


def activations() -> None:
    x, y = _flat, _flat
    for one in (act.sigmoid, act.elu_p1, act.logsigmoid, act.swish):
        backward(one(x()))
    for two in (act.swiglu, act.sigmoidglu, act.powglu):
        backward(two(x(), y()))
    backward(act.swiglu_linear(x(), y(), _query(64, 256), None))


def convolution() -> None:
    x, weight, bias, state = _flat(), _query(256, 4), _query(256), _query(_BATCH, 256, 4)
    backward(conv.causal_conv1d(x, weight, bias, _flat(), state, True, "silu"))
    with torch.no_grad():
        conv.causal_conv1d_update(_query(_BATCH, 256).detach(), state.detach(), None, weight, bias, "silu")
        conv.causal_conv1d_update_states(x.detach(), 4)


def losses() -> None:
    target = torch.randint(0, 1000, (32,), device="cuda")
    backward(entropy.cross_entropy_loss(_query(32, 1000), target, 0.1, 1.0, 1e-4))
    backward(entropy.cross_entropy_loss(_query(4, 70000), target[:4]))
    linear_entropy.logsumexp_fwd(_query(32, 1000))
    weight = _query(1000, 64)
    backward(linear_entropy.fused_linear_cross_entropy_loss(_query(32, 64), target, weight, _query(1000)))
    teacher = _query(32, 64).detach(), weight.detach()
    backward(kl.fused_kl_div_loss(_query(32, 64), teacher[0], _query(1000, 64), teacher[1]))
    ids = torch.randint(0, 512, (2, 24), device="cuda")
    reference, advantages = -torch.rand(2, 16, device="cuda"), torch.randn(2, device="cuda")
    backward(grpo.fused_grpo_loss(_query(2, 17, 512), reference, ids, advantages))


def norms() -> None:
    for width in (256, 1024):
        x, w, b = _query(*_TOKENS, width), _query(width), _query(width)
        backward(layernorm.layer_norm(x, w, b))
        backward(layernorm.rms_norm(x, w, None, _query(*_TOKENS, width), prenorm=True))
        backward(norm_gate.rms_norm_gated(x, _query(*_TOKENS, width), w, None))
        backward(l2norm.l2norm(x))
    backward(gated_norm.layernorm_fn(_flat(), _query(256), _query(256), _flat(), group_size=64))
    backward(bitlinear.bit_linear(_flat(), _query(64, 256), None, _query(256), None))


def rotary() -> None:
    cos, sin = _query(_LENGTH, 32).detach(), _query(_LENGTH, 32).detach()
    backward(rotations.rotary_embedding(_query(), cos, sin))
    backward(rotations.rotary_embedding(_query(), cos, sin, interleaved=True))


def shifts() -> None:
    backward(token_shift.token_shift(_flat()))
    backward(token_shift.token_shift(_query(1, 4224, 64)))


def rwkv7_parts() -> None:
    x, previous, mixed = _flat(), _query(_BATCH, 256), _query(256)
    backward(channel_mixing.channel_mixing_rwkv7(x, previous, mixed, _query(256, 512), _query(512, 256))[0])
    backward(fused_addcmul.fused_addcmul_rwkv7(_flat(), _flat(), *(_query(1, 1, 256) for _ in range(6))))
    backward(fused_k_update.fused_k_rwkv7(_flat(), _flat(), _query(256)))
    backward(fused_k_update.fused_k_rwkv7(_query(1, 4224, 64), _query(1, 4224, 64), _query(64)))


def decoding() -> None:
    """One token after those in a cache."""
    with torch.no_grad():
        k, v = _query(1, 256, _HEADS, _WIDTH), _query(1, 256, _HEADS, _WIDTH)
        attn_decoding.attn_decoding_one_step(_query(1, 3, _HEADS, _WIDTH), k, v, cu_seqlens=_lengths())
        q, r, k, v = (_query(_BATCH, each, _HEADS, _WIDTH) for each in (1, 1, _LENGTH, _LENGTH))
        parallax.parallax_decode_one_step(q, r, k, v)
        parallax.parallax_decode(_query(_BATCH, 16, _HEADS, _WIDTH), _query(_BATCH, 16, _HEADS, _WIDTH), k, v)
        states = (tensor(_BATCH, _HEADS, _WIDTH, _WIDTH, dtype="float32") for _ in range(2))
        g, beta = _decay(_BATCH, _HEADS), _share(_BATCH, _HEADS)
        q, k, v = (_query(_BATCH, _HEADS, _WIDTH) for _ in range(3))
        mesa.mesa_net_decoding_one_step(q, k, v, g, _share(_HEADS, _WIDTH), beta, *states, 5)
        prefix = _decay(*_QUERY).cumsum(1)
        cached, anchors = wall.build_wall_kv_cache(_query(), prefix, 64)
        wall.parallel_wall_attn_decode(
            _query(_BATCH, 1, _HEADS, _WIDTH),
            _query(),
            prefix[:, -1:].contiguous(),
            cached,
            anchors,
            None,
            0.125,
            64,
        )
        q, k, v = (_query(_BATCH, 1, _HEADS, _WIDTH).detach() for _ in range(3))
        s, g = (_decay(_BATCH, 1, _HEADS, 32, dtype="bfloat16").detach() for _ in range(2))
        gsa.fused_recurrent_gsa(q, k, v, s, g, output_final_state=True)


def cyfa_recurrent() -> None:
    with torch.no_grad():
        for length in (_LENGTH, 1):
            q, k, v = (_query(_BATCH, length, _HEADS, _WIDTH).detach() for _ in range(3))
            g, delta, beta = (_decay(_BATCH, length, _HEADS).detach().exp().log() for _ in range(3))
            weights = _query(_WIDTH).detach(), _query(_WIDTH).detach()
            readout = tensor(_HEADS, 31, 31, dtype="float32", grad=False)
            cyfa.fused_recurrent_cyfa(
                q, k, v, g, -delta, beta.exp(), readout, *weights, 1e-6, 1e-6, output_final_state=True
            )


def parallel_delta_rule() -> None:
    """Which this release of the package cannot import."""
    from fla.ops.delta_rule import parallel as delta_parallel

    q, k, v = (_query(_BATCH, _HEADS, _LENGTH, _WIDTH) for _ in range(3))
    delta_parallel.parallel_delta_rule(q, k, v, _share(_BATCH, _HEADS, _LENGTH), output_attentions=True)


def deltaformer() -> None:
    """Without the FlashAttention that comes after it."""
    q, k, v = (_query(1, 256, _HEADS, _WIDTH) for _ in range(3))
    backward(deltaformers.ParallelDeltaformerFunction.apply(q, k, v, _share(1, 256, _HEADS), 64, None))


def attention_with_cache() -> None:
    w, beta = _unit().detach().float(), _share(*_SCALAR, dtype="float32")
    with torch.no_grad():
        path.parallel_path_attn(_query(), _unit(), _query(), w, beta, use_cache=True)


def chunks_of_other_sizes() -> None:
    short = [_query(_BATCH, 32, _HEADS, _WIDTH) for _ in range(2)] + [
        _unit(_BATCH, 32, _HEADS, _WIDTH) for _ in range(3)
    ]
    q, v, k, a, b = (each.detach() for each in short)
    delta.chunk_iplr_delta_rule(q, k, v, a, b)
    delta.chunk_dplr_delta_rule(q, k, v, -a, b, _decay(_BATCH, 32, _HEADS, _WIDTH), chunk_size=64)


def log_linear_continued() -> None:
    """From a state that the part before it has left."""
    with torch.no_grad():
        state = None
        for length in (96, 64):
            q, k, v = (_query(_BATCH, length, _HEADS, _WIDTH) for _ in range(3))
            g, scales = _decay(_BATCH, length, _HEADS), _share(_BATCH, length, _HEADS, 8)
            _, state = log_linear.chunk_log_linear_attn(
                q, k, v, g, scales, initial_state=state, output_final_state=True
            )


def uncalled() -> None:
    """What the package has, and calls nowhere."""
    with torch.no_grad():
        oja_kkt.chunk_scaled_dot_kkt_fwd(_unit(), beta=_share(*_SCALAR))


def context_parallel() -> None:
    """What one of several GPUs does with its part of a sequence."""
    with torch.no_grad():
        q, k, w, u, do, dv = (_query(1, _LENGTH, _HEADS, _WIDTH) for _ in range(6))
        summaries = tensor(2, _HEADS, _WIDTH, 2 * _WIDTH, dtype="float32")
        g = _decay(1, _LENGTH, _HEADS)
        cp_fwd.chunk_cp_fwd_h(k, w, u, summaries[0], g, cu_seqlens=_lengths()[:2] + 64)
        cp_bwd.chunk_cp_bwd_dh(q, k, w, do, dv, summaries[1], g, scale=0.125, cu_seqlens=_lengths()[:2] + 64)
        cp_merge.chunk_cp_merge(tensor(_HEADS, _WIDTH, _WIDTH, dtype="float32"), summaries, 2, 1)


def states_split() -> None:
    """Other ways to the states of chunks than the one that the operations take."""
    with torch.no_grad():
        q, k, v, do = _query(), _unit(), _query(), _query()
        g, state = _decay(*_SCALAR), tensor(_BATCH, _HEADS, _WIDTH, _WIDTH, dtype="float32")
        for module, more in ((chunk_h_parallel, {}), (chunk_h_split, {"split_size": 64})):
            module.chunk_fwd_h(k, v, g, None, None, state, True, **more)
            module.chunk_bwd_dh(q, k, v, g, None, None, do, state, state, 0.125, **more)


def utilities() -> None:
    with torch.no_grad():
        matmul(_query(_LENGTH, 64), _query(64, 256), "relu")
        addmm(_query(_LENGTH, 256), _query(_LENGTH, 64), _query(64, 256), *(_query(1) for _ in range(2)))
        logsumexp_fwd(tensor(32, 1000, dtype="float32"))
        for size in (16, 32, 64):
            solve_tril(_query(*_TOKENS, _HEADS, size).float().tril(-1))
        for reverse in (False, True):
            cumsum.chunk_global_cumsum(_decay(*_SCALAR), reverse=reverse)
            cumsum.chunk_global_cumsum(_decay(*_QUERY), reverse=reverse)
    backward(pack.pack_sequence(_query(3, 128, 64), _lengths() // 2, "left"))
    index.prepare_position_ids(_lengths())


def of_other_gpus() -> None:
    """What the package has for chunks that are not a multiple of 64, and for its own separate gradients."""
    with torch.no_grad():
        q, k, v = _query(), _unit(), _query()
        beta, g = _share(*_SCALAR, dtype="float32"), _decay(*_SCALAR)
        h = tensor(_BATCH, 2, _HEADS, _WIDTH, _WIDTH, dtype="float32")
        mesa_bwd.chunk_mesa_net_h_kv_bwd_intra_separate_fn(q, k, v, beta, h, h, g, _query(), None)


# ---- written in Gluon, for NVIDIA


def gluon() -> None:
    if torch.version.hip:
        return
    with patch.dict("os.environ", {"FLA_GLUON": "1"}):
        x, weight, bias = _flat(), _query(256, 4), _query(256)
        backward(conv.causal_conv1d(x, weight, bias, None, None, False, "silu"))
        target = torch.randint(0, 1000, (32,), device="cuda")
        backward(entropy.cross_entropy_loss(_query(32, 1000), target))
        backward(entropy.cross_entropy_loss(_query(4, 70000), target[:4]))
        backward(fused.fused_attnres(_query(256), [_flat() for _ in range(3)], _query(256)))
        backward(sinkhorn.sinkhorn(tensor(64, 4, 4, dtype="float32")))
