"""The one module that imports triton: one variant and one target in, an Image out, for every supported release.

What a release does differently is in its `Release` below; what in the environment changes code is switched off
or pinned, and recorded. Triton's cache is used, one folder for what its key leaves out: the name that the variant's
device function is given, the values that code names (`source.py`), what opaque constants hold, an arch's suffix.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import triton
import triton.language as tl
from triton import knobs
from triton.compiler import ASTSource, CompilationError, make_backend
from triton.runtime.jit import JITFunction

from kpack.compile.gpu_target import arch_suffix, gpu_target
from kpack.compile.source import key_of, place_of, reached
from kpack.errors import KpackError, SpecError
from kpack.image import Compiled, Image, Tensordesc, read_image
from kpack.objfile import abi
from kpack.paths import cache_dir
from kpack.spec import (
    Bound,
    Constant,
    DType,
    Fixed,
    Opaque,
    Plan,
    Value,
    Variant,
    as_tuple,
    dtype_name,
)
from kpack.target import GENERIC, Target, nearest, parse_target

__all__ = ["Misfit", "check", "compile_variant", "pin_environment", "provenance", "reason_of", "source_key"]


_TMA_BYTES = 16  # what a row of a tensor map's box is a multiple of


class Misfit(KpackError):
    """A variant that compiles to something that was not asked for, or that nothing here can launch."""


# ---- releases of Triton


@dataclass(frozen=True, slots=True)
class Release:
    """What changes from release to release. `hidden`: pointers that follow the user's arguments."""

    hidden: tuple[int, ...]
    cluster_dims: bool
    """clusters are metadata.cluster_dims; else num_ctas, along x"""
    desc_flags: tuple[int, ...]
    """of a tensor descriptor that is passed in parts: the flags between its strides and the shape's repetition"""
    ptxas_by_arch: bool = True
    """there are two of ptxas, and asking for the version takes an architecture"""
    own_linker: bool = True
    """AMD code is linked within Triton; else by an ld.lld, found by TRITON_HIP_LLD_PATH or where ROCm has it"""
    gluon_without_driver: bool = True
    """Gluon is told the target; else it asks the driver of a GPU"""


_SCRATCH = (abi.SLOT_GLOBAL_SCRATCH, abi.SLOT_PROFILE_SCRATCH)
_DESC_FLAGS = (abi.SLOT_DESC_NAN_PADDING, abi.SLOT_DESC_ROUND_TF32)
_RELEASES: dict[tuple[int, int], Release] = {
    (3, 4): Release(
        hidden=_SCRATCH[:1],
        cluster_dims=True,
        desc_flags=(),
        ptxas_by_arch=False,
        own_linker=False,
        gluon_without_driver=False,
    ),
    (3, 5): Release(hidden=_SCRATCH, cluster_dims=True, desc_flags=_DESC_FLAGS[:1], ptxas_by_arch=False),
    (3, 6): Release(hidden=_SCRATCH, cluster_dims=False, desc_flags=_DESC_FLAGS[:1]),
    (3, 7): Release(hidden=_SCRATCH, cluster_dims=False, desc_flags=_DESC_FLAGS),
    (3, 8): Release(hidden=_SCRATCH, cluster_dims=False, desc_flags=_DESC_FLAGS),
    (3, 9): Release(hidden=_SCRATCH, cluster_dims=False, desc_flags=_DESC_FLAGS),
}


def _version() -> tuple[int, int]:
    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def _release() -> Release:
    try:
        return _RELEASES[_version()]
    except KeyError:
        known = " ".join(f"{major}.{minor}" for major, minor in _RELEASES)
        raise SpecError(
            f"triton: expected a release whose launch convention is known: {known}, got {triton.__version__}"
        ) from None


# ---- the environment

# What the environment may say: where things are, and what compiles at all, not what code comes out. The tools among
# them are recorded; the values of globals are in the keys of `source.py`.
_KEPT = frozenset(
    (
        "TRITON_PTXAS_PATH",
        "TRITON_PTXAS_BLACKWELL_PATH",
        "TRITON_HOME",
        "TRITON_AMD_CODEGEN_PATH",
        "TRITON_HIP_LLD_PATH",
        "TRITON_ALLOW_NON_CONSTEXPR_GLOBALS",
    )
)
_PREFIXES = ("TRITON_", "AMDGCN_", "MLIR_", "LLVM_", "NVPTX_")
_OTHERS = ("ALLOW_LHS_TMEM_LAYOUT_CONVERSION", "USE_IR_LOC", "PTXAS_OPTIONS")
_OTHER_PREFIX = "DISABLE_"  # DISABLE_LLVM_OPT, DISABLE_PTXAS_OPT, DISABLE_MMA_V3 ...

# With line info, an image would hold the path of the kernel's source file.
_PINNED = {"TRITON_DISABLE_LINE_INFO": "1"}

# Some defaults are read from the environment when triton is imported, which was before this module could act.
_PINNED_OPTIONS: Mapping[str, Any] = {
    "enable_fp_fusion": True,
    "debug": False,
    "instrumentation_mode": "",
    "ptx_options": "",
}
# Not for users: they name files of the machine, or contradict the target.
_REFUSED_OPTIONS = frozenset(
    ("arch", "backend_name", "extern_libs", "ir_override", "warp_size", "instrumentation_mode")
)


def pin_environment() -> None:
    """Make code depend on kernels and options alone. For a process that does nothing but compile."""
    for name in list(os.environ):
        changes_code = name.startswith((*_PREFIXES, _OTHER_PREFIX)) or name in _OTHERS
        if changes_code and name not in _KEPT:
            del os.environ[name]
    os.environ.update(_PINNED)
    # Knobs that the program has set in Python go before the environment.
    for group in (knobs.compilation, knobs.runtime, knobs.language, knobs.nvidia, knobs.amd):
        for name in (*group.knob_descriptors, "add_stages_inspection_hook"):
            if name != "allow_non_constexpr_globals":
                group.__dict__.pop(name, None)


# ---- before compiling


def check(plans: Iterable[Plan], targets: Sequence[Target]) -> None:
    """Refuse what no variant could be compiled with. Raises SpecError with a line a mistake."""
    _release()
    ready_made = [target for target in targets if target.processor in GENERIC or target.features]
    if ready_made:
        raise SpecError(
            "\n".join(
                f"arch: expected what Triton compiles for, got {target.name!r}, which is for ready-made code; "
                f"give {' '.join(GENERIC.get(target.processor, (target.processor,)))}"
                for target in ready_made
            )
        )
    # Of both vendors, whatever is built: what one has and the other lacks is passed over, as Triton itself does.
    samples = ("sm_90", "gfx942")
    known = frozenset().union(*map(_option_names, (*targets, *map(parse_target, samples))))
    mistakes = []
    for plan in plans:
        fn = _jit(plan)
        if not isinstance(fn, JITFunction):
            mistakes.append(
                f"{plan.name}: expected a function decorated with @triton.jit, got {type(fn).__name__}"
            )
        elif fn.is_gluon() and not _release().gluon_without_driver:
            mistakes.append(
                f"{plan.name}: expected Triton 3.5 or later for @gluon.jit, got {triton.__version__}, which asks a GPU"
            )
        for name in sorted({name for variant in plan.variants for name, _ in variant.options}):
            if name not in known:
                mistakes.append(
                    f"{plan.name}: option {name!r}: expected one of {' '.join(sorted(known))}, "
                    f"got {name!r}{nearest(name, known)}"
                )
    if mistakes:
        raise SpecError("\n".join(mistakes))


def _option_names(target: Target) -> frozenset[str]:
    options = _backend(target).parse_options({"enable_fp_fusion": True})
    return frozenset(type(options).__dataclass_fields__) - _REFUSED_OPTIONS


def _backend(target: Target) -> Any:
    return make_backend(gpu_target(target))


def _jit(plan: Plan) -> Any:
    """The function that is compiled, out of whatever is wrapped around it."""
    return plan.kernel.checked.function.jit


def source_key(plan: Plan) -> str:
    """Stands for the kernel's source, all that it calls, and the compiler."""
    handed = [bound for variant in plan.variants for bound in variant.bound]
    return f"triton-{triton.__version__}-{key_of(_jit(plan), handed)}"


def provenance(plan: Plan, targets: Sequence[Target]) -> dict[str, Any]:
    """What a person would need to make these images again; no path and no time, so that bytes stay the same."""
    return {
        "triton": triton.__version__,
        "source": plan.source,
        "source_hash": key_of(_jit(plan)),
        "environment": dict(_PINNED),
        "tools": {target.name: _tool_version(target) for target in targets},
        "pinned": dict(_PINNED_OPTIONS),
        "options": {variant.name: dict(map(_recorded, variant.options)) for variant in plan.variants},
        **_wrapped(plan),
    }


def _wrapped(plan: Plan) -> dict[str, Any]:
    """What a tuner may want to know of the function's own autotuner, and that a person of its heuristics."""
    function = plan.kernel.checked.function
    tuning, heuristics = function.tuning, [heuristic.name for heuristic in function.heuristics]
    facts = {"heuristics": heuristics} if heuristics else {}
    if tuning is None:
        return facts
    return {
        **facts,
        "autotuner": {
            "key": tuning.key,
            "reset_to_zero": tuning.reset_to_zero,
            "restore_value": tuning.restore_value,
            "prunes": tuning.prune,
            "left_out": tuning.hooks,
        },
    }


def _recorded(option: tuple[str, Value]) -> tuple[str, object]:
    name, value = option
    return name, str(value) if isinstance(value, DType) else value


def _tool_version(target: Target) -> str:
    """The version of what turns the last text into machine code."""
    if target.vendor == abi.VENDOR_CUDA:
        compiler = importlib.import_module("triton.backends.nvidia.compiler")
        ptxas_version = compiler.get_ptxas_version
        text = str(ptxas_version(target.arch) if _release().ptxas_by_arch else ptxas_version())
        release = [line for line in text.splitlines() if "release" in line]
        return (release or text.splitlines() or [""])[-1].strip()
    compiler = importlib.import_module("triton.backends.amd.compiler")
    revision = getattr(compiler, "get_amd_codegen_revision", None)
    if revision is not None:
        return str(revision())
    llvm = f"LLVM of triton {triton.__version__}"
    if _release().own_linker:
        return llvm
    linker = compiler.HIPBackend.path_to_rocm_lld()
    return f"{llvm}, {subprocess.check_output([linker, '--version'], text=True).strip()}"


# ---- compiling


def compile_variant(plan: Plan, variant: Variant, target: Target) -> Image:
    """Compile one variant. Only in a process of its own kind: it renames the kernel's device function."""
    fn = _jit(plan)
    fn.repr = lambda _: variant.entry
    key = repr((variant.entry, key_of(fn, variant.bound), variant.bound, target.suffix))
    folder = cache_dir() / "triton" / hashlib.sha256(key.encode()).hexdigest()[:32]
    os.environ["TRITON_CACHE_DIR"] = str(folder)
    with arch_suffix(target):
        result = triton.compile(
            _source(plan, variant), target=gpu_target(target), options=_options(plan, variant, target)
        )
    return read_image(_compiled(plan, variant, target, result))


def _source(plan: Plan, variant: Variant) -> ASTSource:
    """The kernel with everything bound that this variant binds, as Triton's own launcher writes it down: by paths,
    of a parameter and of its parts; constexprs, ones and nulls are constants."""
    fn = _jit(plan)
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}

    def place(path: tuple[int, ...], bound: Bound) -> Any:
        """The signature of what lies at `path`."""
        if isinstance(bound, tuple):
            return as_tuple(bound, (place((*path, at), part) for at, part in enumerate(bound)))
        if isinstance(bound, Fixed):
            constants[path] = _triton_value(bound.value)
        elif bound in variant.equal_1 | variant.null:
            constants[path] = 1 if bound in variant.equal_1 else None
        else:
            if bound in variant.divisible_16:
                attributes[path] = [["tt.divisibility", 16]]
            return variant.arguments[bound][1]
        return "constexpr"

    signature = {
        name: place((number,), bound)
        for number, (name, bound) in enumerate(zip(fn.arg_names, variant.bound, strict=True))
    }
    source = _gluon_source() if fn.is_gluon() else ASTSource
    return source(fn, signature, constexprs=constants, attrs=attributes)


def _gluon_source() -> Any:
    return importlib.import_module("triton.experimental.gluon._runtime").GluonASTSource


_DTYPES = {dtype_name(dtype): dtype for dtype in vars(tl).values() if isinstance(dtype, tl.dtype)}


def _triton_value(value: Constant) -> Any:
    if isinstance(value, tuple):
        return as_tuple(value, map(_triton_value, value))
    if isinstance(value, Opaque):
        return value.value
    return _DTYPES[value.name] if isinstance(value, DType) else value


def _options(plan: Plan, variant: Variant, target: Target) -> dict[str, Any]:
    """The options of this backend: what is pinned, what the function says, then what the user gave."""
    known = _option_names(target) | {"instrumentation_mode"}
    debug = {"debug": True} if getattr(_jit(plan), "debug", None) else {}
    given = {**_PINNED_OPTIONS, **debug, **dict(variant.options)}
    return {name: value for name, value in given.items() if name in known}


def _compiled(plan: Plan, variant: Variant, target: Target, result: Any) -> Compiled:
    """What Triton says of its result, in kpack's words."""
    metadata, release = result.metadata, _release()
    if metadata.name != variant.entry:
        raise Misfit(f"device function: expected the name {variant.entry}, got {metadata.name}")
    cluster = tuple(metadata.cluster_dims) if release.cluster_dims else (metadata.num_ctas, 1, 1)
    folded = variant.equal_1 | variant.null
    types = plan.overloads[variant.overload].types
    tensordescs, are_maps = _tensordescs(variant, target, types, metadata)
    return Compiled(
        target=target,
        entry=variant.entry,
        code=_code(target, result.asm),
        arguments=tuple(
            (index, types[index]) for index in range(len(variant.arguments)) if index not in folded
        ),
        hidden=release.hidden,
        tensordescs=tensordescs,
        parts=None if are_maps else release.desc_flags,
        # Warp specialisation adds warps: the requested number is not the launched one.
        num_warps=metadata.num_warps,
        warp_size=getattr(metadata, "warp_size", target.warp_size),  # 3.4 says it for AMD only
        shared_bytes=metadata.shared,
        cluster=(cluster[0], cluster[1], cluster[2]),
        global_scratch_bytes=getattr(metadata, "global_scratch_size", 0),  # not on AMD before 3.7
        global_scratch_align=getattr(metadata, "global_scratch_align", 1),
        profile_scratch_bytes=getattr(metadata, "profile_scratch_size", 0),
        profile_scratch_align=getattr(metadata, "profile_scratch_align", 1),
        flags=_flags(target, metadata, cluster),
        convention=100 * _version()[0] + _version()[1],
    )


# ---- host tensor descriptors


def _tensordescs(
    variant: Variant, target: Target, types: Sequence[int], metadata: Any
) -> tuple[tuple[Tensordesc, ...], bool]:
    """The variant's descriptors, and whether each is passed as a map: Triton has an entry a descriptor then."""
    declared = tuple(
        _declared(index, types[index], text)
        for index, (_, text) in enumerate(variant.arguments)
        if abi.is_tensordesc(types[index])
    )
    meta = getattr(metadata, "tensordesc_meta", None) or ()
    if not meta:
        return declared, False
    if len(meta) != len(declared):
        raise Misfit(f"host tensor descriptors: expected {len(declared)} by the signature, got {len(meta)}")
    if target.kind != abi.IMAGE_CUBIN:
        raise Misfit(
            "host tensor descriptors: expected a target that takes their parts or CUDA's tensor maps, "
            f"got {target.name}, which takes TDM descriptors; pass pointers"
        )
    return tuple(
        _decided(descriptor, facts, variant.arguments[descriptor.param][0])
        for descriptor, facts in zip(declared, meta, strict=True)
    ), True


def _declared(param: int, type_: int, text: str) -> Tensordesc:
    """By the signature: "tensordesc<fp16[64,64]>"."""
    element = type_ & ~abi.TENSORDESC
    box = tuple(int(size) for size in text[text.index("[") + 1 : text.index("]")].split(","))
    return Tensordesc(param, len(box), element, abi.ELEMENT_BYTES[element], box)


def _decided(declared: Tensordesc, facts: Mapping[str, Any], name: str) -> Tensordesc:
    """By the compiler, which may make the box smaller."""
    box, size = tuple(facts["block_size"]), facts["elem_size"]
    if size != declared.element_bytes:
        raise Misfit(
            f"argument {name!r}: expected elements of {declared.element_bytes} bytes, got {size} by the compiler"
        )
    if box[-1] * size % _TMA_BYTES:
        raise Misfit(
            f"argument {name!r}: expected a multiple of {_TMA_BYTES} bytes along the last dimension of the block, "
            f"got {box[-1]} elements of {size}; TMA moves no less"
        )
    flags = {
        abi.DESC_FP4_PADDED: facts["fp4_padded"],
        abi.DESC_IM2COL: facts.get("is_im2col", False),  # from 3.7 on
    }
    return replace(
        declared,
        box=box,
        swizzle=facts["swizzle"],
        flags=sum(flag for flag, is_set in flags.items() if is_set),
    )


def _code(target: Target, asm: Mapping[str, Any]) -> bytes:
    if target.kind == abi.IMAGE_PTX:
        return str(asm["ptx"]).encode() + b"\0"  # the driver takes PTX as a C string
    code: bytes = asm["cubin" if target.kind == abi.IMAGE_CUBIN else "hsaco"]
    return code


def _flags(target: Target, metadata: Any, cluster: Sequence[int]) -> int:
    ctas = cluster[0] * cluster[1] * cluster[2]
    flags = {
        abi.IMAGE_COOPERATIVE: metadata.launch_cooperative_grid,
        abi.IMAGE_PDL: getattr(metadata, "launch_pdl", False),
        abi.IMAGE_GRID_TIMES_CLUSTER: ctas > 1,
        abi.IMAGE_NONPORTABLE_CLUSTER: ctas > 8,
        # Triton's AMD launcher sizes scratch by grid element.
        abi.IMAGE_SCRATCH_PER_CTA: target.vendor == abi.VENDOR_CUDA,
    }
    return sum(flag for flag, is_set in flags.items() if is_set)


def reason_of(error: BaseException, plan: Plan) -> str:
    """Triton's own words: the line of the source it points at, and why, without a Python traceback."""
    handed = [bound for variant in plan.variants for bound in variant.bound]
    functions = reached(_jit(plan), handed)
    reasons: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = str(current).strip() or type(current).__name__
        if isinstance(current, CompilationError):
            text = place_of(current, functions) + text
        elif not isinstance(current, (KpackError, triton.TritonError)):
            text = f"{type(current).__name__}: {text}"
        if not any(text in known for known in reasons):
            reasons.append(text)
        current = current.__cause__
    return "\n".join(reasons)
