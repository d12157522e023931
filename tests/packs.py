"""Small kernels with made-up machine code: for tests of the object files, which never look inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kpack.errors import Failure
from kpack.expr import trace
from kpack.image import Image, Slot
from kpack.objfile import abi
from kpack.objfile.archive import Member
from kpack.objfile.encode import encode_index, encode_kernel
from kpack.spec import Constexpr, DType, Overload, Param, Plan, Variant
from kpack.target import parse_target, parse_targets

TARGETS = parse_targets(("gfx90a", "sm_80", "ptx_80"))
N = trace("n", ("n",))
GUARD = trace("n <= 1024", ("n",))
BYTES = trace("n * 2", ("n",))


def pointer(code: int) -> int:
    return abi.POINTER | code


def param(name: str, type_: int, *, kind: int = abi.PARAM_ARGUMENT, **facts: Any) -> Param:
    return Param(name, kind, type_, **({"const": False, "nullable": False, "least": 0, "most": 0} | facts))


def variant(name: str, constexprs: tuple[Any, ...], **facts: Any) -> Variant:
    defaults: dict[str, Any] = {
        "entry": "softmax_" + name.replace(".", "_"),
        "overload": 0,
        "arguments": (("out_ptr", "*fp16"), ("in_ptr", "*kfp16"), ("n", "i32")),
        "divisible_16": frozenset(),
        "equal_1": frozenset(),
        "null": frozenset(),
        "options": (("num_stages", 3), ("num_warps", 4)),
        "guard": None,
        "grid": (N,),
        "targets": TARGETS,
    }
    return Variant(name=name, constexprs=constexprs, **(defaults | facts))


LAYOUT = (
    Slot(abi.SLOT_ARGUMENT, pointer(abi.FP16), 0, 0, 8),
    Slot(abi.SLOT_ARGUMENT, pointer(abi.FP16), 1, 8, 8),
    Slot(abi.SLOT_ARGUMENT, abi.I32, 2, 16, 4),
    Slot(abi.SLOT_GLOBAL_SCRATCH, abi.POINTER, 0, 24, 8),
    Slot(abi.SLOT_PROFILE_SCRATCH, abi.POINTER, 0, 32, 8),
)


def image(target: str, code: bytes, entry: str = "softmax_kernel", **facts: Any) -> Image:
    found = parse_target(target)
    cuda = found.vendor == abi.VENDOR_CUDA
    made = Image(
        target=found,
        entry=entry,
        code=code,
        num_warps=4,
        warp_size=found.warp_size,
        cluster=(1, 1, 1),
        shared_bytes=1024,
        static_shared_bytes=16,
        registers=32,
        spill_bytes=8,
        local_bytes=24,
        max_threads=128,
        param_bytes=40,
        layout=LAYOUT,
        global_scratch_bytes=256,
        global_scratch_align=128,
        flags=abi.IMAGE_PDL if cuda else 0,
        convention=309,
        least_driver=12000 if cuda else 0,
        ptx_version=80 if found.kind == abi.IMAGE_PTX else 0,
        elf_flags=0 if cuda else 0x53F,
    )
    return replace(made, **facts)


def plan(name: str = "softmax", **facts: Any) -> Plan:
    """Two overloads, fp16 and fp32, with a selected constexpr; three variants."""
    params = (
        param("out_ptr", abi.VARIES, direction=abi.DIRECTION_OUT, extent=BYTES),
        param("in_ptr", abi.VARIES, const=True, nullable=True, direction=abi.DIRECTION_IN),
        param("n", abi.I32, least=-(1 << 31), most=(1 << 31) - 1, key=abi.PARAM_KEY),
        param("MODE", abi.VARIES, kind=abi.PARAM_SELECTED),
    )
    half = (1024, DType("fp16"), 0.5, True, "fast")
    single = (2048, DType("fp32"), -1.5, False, None)
    made = Plan(
        kernel=None,  # type: ignore[arg-type]  # what the user wrote is not looked at
        name=name,
        params=params,
        overloads=(
            Overload((pointer(abi.FP16),) * 2 + (abi.I32, abi.STRING), ("fast",)),
            Overload((pointer(abi.FP32),) * 2 + (abi.I32, abi.NONE), (None,)),
        ),
        variants=(
            variant("fp16.BLOCK1024.w4.a16", half, divisible_16=frozenset({0, 1}), guard=GUARD),
            variant("fp16.BLOCK1024.w4", half),
            variant(
                "fp32.BLOCK2048.w8",
                single,
                overload=1,
                equal_1=frozenset({2}),
                null=frozenset({1}),
                grid=(N, N),
                options=(("num_warps", 8),),
            ),
        ),
        constexprs=(
            Constexpr("BLOCK", abi.CONSTEXPR_TUNED),
            Constexpr("T", abi.CONSTEXPR_FIXED),
            Constexpr("SCALE", abi.CONSTEXPR_FIXED),
            Constexpr("EXACT", abi.CONSTEXPR_FIXED),
            Constexpr("MODE", abi.CONSTEXPR_SELECTED),
        ),
        guard_text="n <= BLOCK",
        grid_text="n",
        source=f"{name}.py:12",
    )
    return replace(made, **facts)


def images(of: Plan, fill: int = 1) -> dict[tuple[int, str], Image]:
    """An image for each variant and target; the first two variants have the same code for sm_80."""
    found = {}
    for index, planned in enumerate(of.variants):
        for target in planned.targets:
            same = target.name == "sm_80" and index == 1
            kind = 0 if same else index
            code = (f"{of.name} {kind} {target.name} {fill} " * 40).encode()[: 700 + 10 * kind]
            code += b"\0" if target.kind == abi.IMAGE_PTX else b""
            found[index, target.name] = image(target.name, code, entry=f"{of.name}_{index}")
    return found


def kernel(
    name: str = "softmax", *, pack: str = "tk", host: str = "x86_64", fill: int = 1, **facts: Any
) -> Member:
    of = plan(name, **facts)
    return encode_kernel(pack, of, images(of, fill), info=f'{{"kernel": "{name}"}}', host=host)


def kernel_with_holes(name: str = "softmax", pack: str = "tk") -> Member:
    """The first variant has no sm_80 image, the second no image at all."""
    of = plan(name)
    found = images(of)
    del found[0, "sm_80"], found[1, "gfx90a"], found[1, "sm_80"], found[1, "ptx_80"]
    reason = "out of shared memory: needs 300000 bytes\nand more words"
    holes = [Failure(name, of.variants[index].name, "sm_80", reason) for index in (0, 1)]
    return encode_kernel(pack, of, found, holes)


def pack_members(
    names: Iterable[str] = ("add", "softmax", "vec"), *, pack: str = "tk", host: str = "x86_64", fill: int = 1
) -> list[Member]:
    kernels = [kernel(name, pack=pack, host=host, fill=fill) for name in names]
    return [*kernels, encode_index(pack, kernels, host)]
