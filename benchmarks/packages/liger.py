"""Operations of liger-kernel: norms, activations, rotations, losses, a grouped GEMM, a GEMM through tensor maps."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from liger_kernel import ops
from liger_kernel.ops import fused_linear_cross_entropy as flce
from liger_kernel.ops import fused_moe as moe
from liger_kernel.ops import grpo_loss as grpo
from liger_kernel.ops import mhc, swiglu, utils
from liger_kernel.ops import softmax as softmaxes
from liger_kernel.ops.experimental import mm_int8int2

from packages import backward, tensor

_ROWS, _COLUMNS = 32, 512


def _targets(rows: int, classes: int) -> torch.Tensor:
    return torch.randint(0, classes, (rows,), device="cuda")


def _probabilities(rows: int, columns: int) -> torch.Tensor:
    return torch.softmax(tensor(rows, columns, dtype="float32", grad=False), -1)


def rms_norm() -> None:
    for casting, dtype in (("llama", "bfloat16"), ("gemma", "float16"), ("none", "float32")):
        x, w = tensor(_ROWS, _COLUMNS, dtype=dtype), tensor(_COLUMNS, dtype=dtype)
        backward(ops.LigerRMSNormFunction.apply(x, w, 1e-6, 0.0, casting, False))


def rms_norm_of_short_rows() -> None:
    x, w = tensor(4096 * 8, 128), tensor(128)
    backward(ops.LigerRMSNormFunction.apply(x, w, 1e-6, 0.0, "llama", False))


def rms_norm_without_weight() -> None:
    backward(ops.LigerRMSNormFunction.apply(tensor(_ROWS, _COLUMNS), None, 1e-6, 0.0, "llama", False))


def fused_add_rms_norm() -> None:
    x, r, w = tensor(_ROWS, _COLUMNS), tensor(_ROWS, _COLUMNS), tensor(_COLUMNS)
    backward(ops.LigerFusedAddRMSNormFunction.apply(x, r, w, 1e-6, 0.0, "llama", False))


def modulated_rms_norm() -> None:
    x, w, scale, shift = tensor(4, 8, 512), tensor(512), tensor(4, 1, 512), tensor(4, 1, 512)
    backward(ops.LigerModulatedRMSNormFunction.apply(x, w, scale, shift, 1e-6, 0.0, "llama", False))


def layer_norm() -> None:
    backward(
        ops.LigerLayerNormFunction.apply(tensor(_ROWS, _COLUMNS), tensor(_COLUMNS), tensor(_COLUMNS), 1e-5)
    )


def group_norm() -> None:
    x, w, b = tensor(4, 16, 64), tensor(16), tensor(16)
    backward(ops.LigerGroupNormFunction.apply(x, w, b, 16, 4, 1e-5))


def poly_norm() -> None:
    backward(ops.LigerPolyNormFunction.apply(tensor(_ROWS, _COLUMNS), tensor(3), tensor(), 1e-6, False))


def dynamic_tanh() -> None:
    x, alpha = tensor(_ROWS, 1024), tensor(1, dtype="float32")
    backward(ops.LigerDyTFunction.apply(x, alpha, tensor(1024), tensor(1024)))
    backward(ops.LigerDyTFunction.apply(x, alpha, tensor(1024), None))


def geglu() -> None:
    backward(ops.LigerGELUMulFunction.apply(tensor(_ROWS, _COLUMNS), tensor(_ROWS, _COLUMNS)))


def silu_mul() -> None:
    backward(ops.LigerSiLUMulFunction.apply(tensor(_ROWS, _COLUMNS), tensor(_ROWS, _COLUMNS), 1.0, 1.0))
    backward(ops.LigerSiLUMulFunction.apply(tensor(_ROWS, _COLUMNS), tensor(_ROWS, _COLUMNS), 1.5, 2.0))
    backward(ops.LigerFusedGateUpSiLUMulFunction.apply(tensor(_ROWS, 2 * _COLUMNS), False))


def silu_mul_in_tiles() -> None:
    """As on Blackwell: the tiles are for any device."""
    with patch.object(swiglu, "_should_tile", lambda columns: True):
        backward(ops.LigerSiLUMulFunction.apply(tensor(_ROWS, 4096), tensor(_ROWS, 4096), 1.0, 1.0))


def relu_squared() -> None:
    backward(ops.LigerReLUSquaredFunction.apply(tensor(_ROWS, _COLUMNS)))


def mlp() -> None:
    weights = tensor(256, 128, scale=0.1), tensor(256, 128, scale=0.1), tensor(128, 256, scale=0.1)
    backward(ops.LigerMLPFunction.apply(tensor(2, 128, 128), *weights, 1.0, 1.0))
    with torch.no_grad():
        ops.LigerMLPFunction.apply(
            tensor(2, 128, 128, grad=False), *(each.detach() for each in weights), 1.0, 1.0
        )


def _routed(index: torch.Tensor, experts: int, rows: int = moe.BLOCK_M_TOKEN) -> tuple[Any, ...]:
    """compute_routing_metadata by torch: how large the grids behind it are depends on what its kernels write."""
    flat = index.reshape(-1).long()
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=experts)
    starts = torch.cat((torch.zeros(1, dtype=torch.int64, device=flat.device), counts.cumsum(0)))
    first, ends = starts.tolist(), counts.tolist()
    tiles = [(at, e) for e in range(experts) for at in range(first[e], first[e] + ends[e], rows)]
    rest = (
        order,
        torch.argsort(order),
        *(torch.tensor(part, device="cuda") for part in zip(*tiles, strict=True)),
    )
    return tuple(each.to(torch.int32) for each in (counts, starts, order // index.shape[1], *rest))


def _mixture(tokens: int = 96, experts: int = 4, hidden: int = 128, inner: int = 64, chosen: int = 2) -> None:
    index = torch.rand(tokens, experts, device="cuda").argsort(1)[:, :chosen].int().contiguous()
    weights = (
        torch.softmax(tensor(tokens, chosen, dtype="float32", grad=False), -1).bfloat16().requires_grad_()
    )
    up, down = tensor(experts, 2 * inner, hidden, scale=0.1), tensor(experts, hidden, inner, scale=0.1)
    backward(ops.LigerFusedMoEFunction.apply(tensor(tokens, hidden), up, down, index, weights))


def fused_moe() -> None:
    with patch.object(moe, "compute_routing_metadata", _routed):
        _mixture()


def moe_routing() -> None:
    index = torch.rand(96, 4, device="cuda").argsort(1)[:, :2].int().contiguous()
    moe.compute_routing_metadata(index, 4)


def rope() -> None:
    q, k = tensor(2, 4, 16, 64), tensor(2, 2, 16, 64)
    cos, sin = tensor(1, 16, 64, grad=False), tensor(1, 16, 64, grad=False)
    backward(*ops.LigerRopeFunction.apply(q, k, cos, sin))


def multimodal_rope() -> None:
    q, k = tensor(2, 4, 16, 64), tensor(2, 2, 16, 64)
    cos, sin = tensor(3, 2, 16, 64, grad=False), tensor(3, 2, 16, 64, grad=False)
    backward(*ops.LigerQwen2VLMRopeFunction.apply(q, k, cos, sin, [8, 12, 12]))


def llama4_rope() -> None:
    q, k = tensor(2, 16, 4, 64), tensor(2, 16, 2, 64)
    turns = torch.polar(torch.ones(16, 32), torch.rand(16, 32)).to("cuda")
    backward(*ops.LigerLlama4RopeFunction.apply(q, k, turns))


def softmax() -> None:
    backward(ops.LigerSoftmaxFunction.apply(tensor(_ROWS, 500)))


def softmax_in_blocks() -> None:
    """What the package has for rows longer than a block; its own choice of a block refuses these rows before."""
    with patch.object(softmaxes, "calculate_settings", lambda columns: (1024, 4)):
        y, *settings = softmaxes._softmax_forward(tensor(_ROWS, 3000, grad=False))
        softmaxes._softmax_backward(tensor(_ROWS, 3000, grad=False), y, *settings)


def sparsemax() -> None:
    backward(ops.LigerSparsemaxFunction.apply(tensor(_ROWS, 256, dtype="float32"), -1))


def multi_token_attention() -> None:
    for sparse in (False, True):
        scores, weight, bias = (
            tensor(2, 2, 32, 32, dtype="float32"),
            tensor(2, 2, 3, 3, dtype="float32"),
            tensor(2, dtype="float32"),
        )
        backward(ops.LigerMultiTokenAttentionFunction.apply(scores, weight, bias, 1, 1, 1, 1, sparse))


def neighborhood_attention() -> None:
    q, k, v = (tensor(1, 2, 64, 32, dtype="float32") for _ in range(3))
    backward(ops.LigerFusedNeighborhoodAttentionFunction.apply(q, k, v, 7, 1, None))


def attention_residual() -> None:
    backward(ops.LigerAttnResFunction.apply(tensor(4, 2, 16, 128), tensor(128), tensor(128), 1e-6))


def embedding() -> None:
    backward(
        ops.LigerEmbeddingFunction.apply(tensor(1000, 128), torch.randint(0, 1000, (4, 16), device="cuda"))
    )


def ternary_matmul() -> None:
    a = torch.randint(-8, 8, (64, 512), device="cuda", dtype=torch.int8)
    b = mm_int8int2.pack_weights(torch.randint(0, 3, (512, 128), device="cuda").to(torch.uint8), bits=2)
    mm_int8int2.matmul(a, b)


# ---- losses


def cross_entropy() -> None:
    logits, target = tensor(_ROWS, 1000), _targets(_ROWS, 1000)
    backward(ops.LigerCrossEntropyFunction.apply(logits, target, None)[0])
    weight = torch.rand(1000, device="cuda")
    logits = tensor(_ROWS, 1000, dtype="float32")
    backward(
        ops.LigerCrossEntropyFunction.apply(
            logits, target, weight, -100, 1e-4, 0.1, "sum", 30.0, True, True, True
        )[0]
    )


def linear_cross_entropy() -> None:
    x, w, target = tensor(_ROWS, 64), tensor(1000, 64), _targets(_ROWS, 1000)
    backward(flce.LigerFusedLinearCrossEntropyFunction.apply(x, w, target, tensor(1000))[0])


def multiplied_in_place() -> None:
    """As backward passes of losses do that do not end in a loss of 1."""
    x = tensor(_ROWS, 1000, grad=False)
    utils.element_mul_kernel[(_ROWS,)](
        x, x.stride(-2), torch.full((), 0.5, device="cuda"), 1000, BLOCK_SIZE=1024, num_warps=4
    )


def cross_entropy_and_distance() -> None:
    student, teacher = tensor(_ROWS, 1000, dtype="float32"), tensor(_ROWS, 1000, dtype="float32", grad=False)
    backward(*ops.LigerFusedCETVDFunction.apply(student, teacher, _targets(_ROWS, 1000)))


def linear_jsd() -> None:
    student, teacher = tensor(_ROWS, 64), tensor(_ROWS, 128, grad=False)
    weights = tensor(1000, 64), tensor(1000, 128, grad=False)
    backward(
        ops.LigerFusedLinearJSDFunction.apply(student, weights[0], teacher, weights[1], _targets(_ROWS, 1000))
    )


def jsd() -> None:
    for beta in (0.0, 0.5, 1.0):
        x = torch.log_softmax(tensor(_ROWS, 1000, dtype="float32"), -1)
        y = torch.log(_probabilities(_ROWS, 1000))
        backward(ops.LigerJSDFunction.apply(x, y, _targets(_ROWS, 1000), beta))


def linear_kl_div() -> None:
    target = _probabilities(_ROWS, 1000)
    backward(ops.LigerFusedLinearKLDivFunction.apply(tensor(_ROWS, 64), tensor(1000, 64), target))


def kl_div() -> None:
    for reduction in ("batchmean", "none"):
        x = torch.log_softmax(tensor(_ROWS, 1000, dtype="float32"), -1)
        backward(ops.LigerKLDivLossFunction.apply(x, _probabilities(_ROWS, 1000), reduction))


def tvd() -> None:
    p = torch.softmax(tensor(_ROWS, 1000, dtype="float32"), -1)
    backward(ops.LigerTVDLossFunction.apply(p, _probabilities(_ROWS, 1000), _targets(_ROWS, 1000)))


def vocabulary_parallel_cross_entropy() -> None:
    target = torch.randint(0, 1000, (16, 2), device="cuda")
    backward(
        ops.LigerVocabParallelCEFunction.apply(
            tensor(16, 2, 1000), target, None, -100, 0.1, "megatron", "eager"
        )
    )


def policy_loss() -> None:
    batch, length, words = 2, 16, 512
    ids = torch.randint(0, words, (batch, length), device="cuda")
    mask = torch.ones(batch, length, device="cuda", dtype=torch.int64)
    old, ref = (-torch.rand(batch, length, device="cuda") for _ in range(2))
    advantages = torch.randn(batch, device="cuda")
    grpo.fused_selective_log_softmax(tensor(batch, length + 1, words, grad=False), ids, 0.9, mask)
    for level, loss in (("token", "grpo"), ("token", "sapo"), ("sequence", "grpo")):
        logits = tensor(batch, length + 1, words)
        result = grpo.GrpoLossFunction.apply(
            logits, old, ref, ids, advantages, mask, 0.9, 0.04, 0.2, 0.2, False, loss, length, True, level
        )
        backward(result[0] if isinstance(result, tuple) else result)


# ---- manifold-constrained hyper-connections


def hyper_connections() -> None:
    tokens, streams, width = 32, 4, 128
    mixed = 2 * streams + streams * streams
    x = tensor(tokens, streams, width)
    phi, b = tensor(streams * width, mixed, scale=0.05), tensor(mixed, dtype="float32")
    alphas = [tensor(dtype="float32") for _ in range(3)]
    pre, post, res = ops.LigerMHCCoeffsFunction.apply(x, phi, b, *alphas, True, 5, 1e-6, 1e-6, 1e-6, 2.0)
    inner = ops.LigerMHCPreFunction.apply(x, pre)
    backward(ops.LigerMHCPostResFunction.apply(x, inner, post, res))


def hyper_connections_without_history() -> None:
    tokens, streams = 32, 4
    mix = tensor(tokens, 2 * streams + streams * streams, dtype="float32", grad=False)
    b, alpha = tensor(mix.shape[1], dtype="float32", grad=False), tensor(dtype="float32", grad=False)
    gradient = tensor(tokens, streams, streams, dtype="float32", grad=False)
    mhc.mhc_sinkhorn_bwd(mix, b, alpha, gradient, tmax=5, sinkhorn_eps=1e-6)
