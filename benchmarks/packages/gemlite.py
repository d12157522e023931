"""Operations of gemlite: weights packed in 8 to 1 bits, quantised activations, and the products of the two."""

from __future__ import annotations

from typing import Any

import torch
from gemlite import bitpack, helper
from gemlite import quant_utils as quant

from packages import tensor

_IN, _OUT, _GROUP = 512, 256, 64
_GEMM = {"GEMM": 64, "GEMM_SPLITK": 16}
_GEMV = {"GEMV": 1, "GEMV_SPLITK": 1, "GEMV_REVSPLITK": 1}


def _linear(bias: bool = False, dtype: str = "float16") -> Any:
    made = torch.nn.Linear(_IN, _OUT, bias=bias, device="cuda", dtype=getattr(torch, dtype))
    return made.requires_grad_(False)


def _products(layer: Any, ways: dict[str, int], dtype: str = "float16") -> None:
    for way, rows in ways.items():
        layer.forward_manual(tensor(rows, _IN, dtype=dtype, grad=False), matmul_type=way)


def _grouped(bits: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weights = torch.randint(0, 2**bits, (_OUT, _IN), device="cuda").to(torch.uint8)
    scales = tensor(_OUT, _IN // _GROUP, dtype="float16", grad=False, scale=0.1)
    return weights, scales, tensor(_OUT, _IN // _GROUP, dtype="float16", grad=False)


def weights_of_8_bits() -> None:
    _products(helper.A16W8_INT8().from_linear(_linear(True)), _GEMM | _GEMV)
    _products(helper.A16W8_FP8().from_linear(_linear()), _GEMM | _GEMV)


def weights_of_4_bits() -> None:
    _products(helper.A16Wn().from_weights(*_grouped(4), 4, _GROUP), _GEMM | _GEMV)


def weights_of_2_and_1_bits() -> None:
    for bits in (2, 1):
        _products(helper.A16Wn(packing_bitwidth=8).from_weights(*_grouped(bits), bits, _GROUP), _GEMM | _GEMV)


def ternary_weights() -> None:
    weights = torch.randint(-1, 2, (_OUT, _IN), device="cuda").to(torch.float16)
    scale = torch.full((1,), 0.1, device="cuda", dtype=torch.float16)
    _products(helper.A16W158_INT().from_weights(weights, scale).to("cuda"), _GEMM | _GEMV)
    _products(helper.A8W158_INT_dynamic().from_weights(weights, scale).to("cuda"), _GEMM)


def activations_of_8_bits() -> None:
    _products(helper.A8W8_int8_dynamic().from_linear(_linear(True)), _GEMM | {"GEMV_REVSPLITK": 1})
    _products(helper.A8W8_fp8_dynamic().from_linear(_linear()), _GEMM)
    _products(helper.A8W8_dynamic(block_quant=True).from_linear(_linear()), _GEMM)


def microscaled_weights() -> None:
    _products(helper.A16W8_MXFP().from_linear(_linear()), _GEMM | {"GEMV": 1})
    _products(helper.A16W4_MXFP().from_linear(_linear()), _GEMM | {"GEMV": 1})


def microscaled() -> None:
    _products(helper.A8W8_MXFP_dynamic().from_linear(_linear()), _GEMM)
    _products(helper.A8W4_MXFP_dynamic().from_linear(_linear()), _GEMM)
    _products(helper.A4W4_MXFP_dynamic().from_linear(_linear()), _GEMM)


def microscaled_of_16() -> None:
    _products(helper.A16W4_NVFP().from_linear(_linear()), _GEMM)
    _products(helper.A4W4_NVFP_dynamic().from_linear(_linear()), _GEMM)


def quantised_rows() -> None:
    x = tensor(64, _IN, dtype="float16", grad=False)
    for number in (1, 2, 3, 4):
        getattr(quant, f"scale_activations_per_token_triton_v{number}")(x, torch.int8)
    for number in (1, 2):
        getattr(quant, f"scale_activations_per_block_triton_v{number}")(x, torch.int8)


def quantised_groups() -> None:
    x = tensor(64, _IN, dtype="float16", grad=False)
    for number in (1, 2, 3, 4):
        getattr(quant, f"scale_activations_mxfp8_triton_v{number}")(x, torch.float8_e4m3fn)
    for version in ("", "_v2", "_v3", "_v5"):
        getattr(quant, f"scale_activations_mxfp4_triton{version}")(x)
    for version in ("", "_v2", "_v3", "_v5"):
        getattr(quant, f"scale_activations_nvfp4_triton{version}")(x)


def packed_bits() -> None:
    weights = torch.randint(0, 16, (_OUT, _IN), device="cuda").to(torch.uint8)
    columns, _ = bitpack.pack_weights_over_cols_triton(weights, 4, 32, False)
    bitpack.unpack_over_cols_triton(columns, 4, _IN)
    rows, _ = bitpack.pack_weights_over_rows_triton(weights, 4, 32, False)
    bitpack.unpack_over_rows_triton(rows, 4, _OUT)
