"""RMSNorm and LayerNorm, forward and backward, beside torch's and a device-to-device copy, in one run: the bandwidth,
as a part of the copy's.

Needs one GPU and torch; writes results/norm_bandwidth.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from bandwidth import BYTES, REPEATS, machine, medians, name_of, prepared, some_of

WIDTHS = [64, 128, 256, 512, 1024, 2048, 3072, 4096, 5120, 6144, 8192, 10240, 12288, 16384, 32768, 65536]
DTYPES = [torch.float16, torch.float32]
EPS = 1e-6
ENOUGH = 0.95  # of the copy

Kernels = Mapping[str, Callable[..., object]]
aten = torch.ops.aten
functional = torch.nn.functional


class Case(NamedTuple):
    """Rows of half of what `memory` has, in places of their own, and what belongs to them."""

    x: torch.Tensor
    dy: torch.Tensor
    out: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    mean: torch.Tensor
    rstd: torch.Tensor
    parts: torch.Tensor

    @classmethod
    def of(cls, memory: torch.Tensor, width: int) -> Case:
        rows = memory.shape[1] // width
        x, dy, out = (each[: rows * width].view(rows, width) for each in memory)
        weight, bias = torch.randn(2, width, device="cuda").to(memory.dtype)
        mean, rstd = torch.empty(2, rows, device="cuda")
        n_parts = (4 if width <= 1024 else 2) * torch.cuda.get_device_properties(0).multi_processor_count
        parts = torch.empty(2, n_parts, width, device="cuda")
        return cls(x, dy, out, weight, bias, mean, rstd, parts)


def forward(kernels: Kernels, name: str, case: Case) -> tuple[Callable[[], object], Callable[[], object]]:
    """kpack's and torch's."""
    rows, width = case.x.shape
    numbers = (width, width, width, EPS, rows)
    if name == "layer_norm":
        pointers = (case.out, case.x, case.weight, case.bias, case.mean, case.rstd)
        return (
            lambda: kernels[name](*pointers, *numbers),
            lambda: functional.layer_norm(case.x, (width,), case.weight, case.bias, EPS),
        )
    return (
        lambda: kernels[name](case.out, case.x, case.weight, case.rstd, *numbers),
        lambda: functional.rms_norm(case.x, (width,), case.weight, EPS),
    )


def backward(kernels: Kernels, name: str, case: Case) -> tuple[Callable[[], object], Callable[[], object]]:
    """kpack's, the sums of the parts included, and torch's; both read what forward has left."""
    rows, width = case.x.shape
    dweight, dbias = torch.empty(2, width, device="cuda", dtype=case.x.dtype)
    n_parts = case.parts.shape[1]
    numbers = (width, width, width, width, rows, n_parts)
    saved_mean, saved_rstd = case.mean[:, None], case.rstd[:, None]

    def ours_layer() -> None:
        pointers = (case.out, *case.parts, case.dy, case.x, case.weight, case.mean, case.rstd)
        kernels["layer_norm_backward"](*pointers, *numbers)
        kernels["column_sums"](dweight, case.parts[0], width, n_parts)
        kernels["column_sums"](dbias, case.parts[1], width, n_parts)

    def ours_rms() -> None:
        pointers = (case.out, case.parts[0], case.dy, case.x, case.weight, case.rstd)
        kernels["rms_norm_backward"](*pointers, *numbers)
        kernels["column_sums"](dweight, case.parts[0], width, n_parts)

    if name == "layer_norm":
        return ours_layer, lambda: aten.native_layer_norm_backward(
            case.dy, case.x, [width], saved_mean, saved_rstd, case.weight, case.bias, [True] * 3
        )
    return ours_rms, lambda: aten._fused_rms_norm_backward(
        case.dy, case.x, [width], saved_rstd, case.weight, [True] * 2
    )


def check(name: str, case: Case, run: Callable[[], object], back: bool) -> None:
    some = some_of(len(case.x))
    case.out[some] = float("nan")
    run()
    x = case.x[some].double().requires_grad_()
    parameters = [each.double() for each in (case.weight, case.bias)]
    if name == "layer_norm":
        wanted = functional.layer_norm(x, (x.shape[1],), *parameters, EPS)
    else:
        wanted = functional.rms_norm(x, (x.shape[1],), parameters[0], EPS)
    if back:
        wanted.backward(case.dy[some].double())
        wanted = x.grad
    tolerance = 1e-5 if case.x.dtype == torch.float32 else 4e-3
    torch.testing.assert_close(case.out[some].double(), wanted.detach(), rtol=tolerance, atol=4 * tolerance)


def table(kernels: Kernels, dtype: torch.dtype) -> tuple[list[str], list[str]]:
    """A row a width, and what is not fast enough."""
    names = [(name, back) for name in ("rms_norm", "layer_norm") for back in (False, True)]
    titles = [f"{name}{' backward' if back else ''}: kpack | torch" for name, back in names]
    lines = [f"| columns | copy, TB/s | {' | '.join(titles)} |", "|---:|---:|" + "---:|---:|" * len(names)]
    short: list[str] = []
    memory = torch.empty(3, BYTES // dtype.itemsize, device="cuda", dtype=dtype)
    memory.normal_()
    for width in WIDTHS:
        case = Case.of(memory, width)
        cells: list[str] = []
        moved = case.x.numel() * dtype.itemsize
        speed = 0.0
        for name, back in names:
            ours, theirs = (backward if back else forward)(kernels, name, case)
            check(name, case, ours, back)
            taken = medians(
                {"kpack": ours, "torch": theirs, "copy": lambda case=case: case.out.copy_(case.x)}
            )
            speed = 2 * moved / taken["copy"] / 1e9
            copies = 1.5 if back else 1.0  # backward reads two tensors and writes one
            part = {way: copies * taken["copy"] / taken[way] for way in ("kpack", "torch")}
            cells.append(f"{part['kpack']:.1%} | {part['torch']:.1%}")
            if part["kpack"] < ENOUGH:
                short.append(
                    f"{name_of(dtype)} {name}{' backward' if back else ''} {width:,}: {part['kpack']:.1%}"
                )
        lines.append(f"| {width:,} | {speed:.2f} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines, short


def main() -> None:
    setting = prepared(__doc__, "norm_bandwidth")
    names = ["rms_norm", "layer_norm", "rms_norm_backward", "layer_norm_backward", "column_sums"]
    kernels = {name: setting.pack[name] for name in names}
    lines = [
        "# RMSNorm and LayerNorm: bandwidth, as a part of the device-to-device copy's",
        "",
        f"{machine()}; tensors of {BYTES / 2**30:.2f} GiB, contiguous; x and y counted, and in backward x, dy and dx; "
        f"medians of {REPEATS}, in turns; {setting.words}. backward: with the gradients of weight and bias.",
    ]
    short: list[str] = []
    for dtype in DTYPES:
        cells, below = table(kernels, dtype)
        lines += ["", f"## {name_of(dtype)}", "", *cells]
        short += below
        torch.cuda.empty_cache()
    lines += ["", f"Below {ENOUGH:.0%}: {'; '.join(short) or 'none'}."]
    setting.file.write_text("\n".join(lines) + "\n")
    print(setting.file)


if __name__ == "__main__":
    main()
