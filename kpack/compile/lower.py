"""Compiling from the middle: Triton's pipeline from a stage on, for what is no Python function any more."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import triton
from triton._C.libtriton import llvm
from triton.backends.compiler import Language

from kpack.compile import adapter
from kpack.compile.gpu_target import arch_suffix, gpu_target
from kpack.errors import SpecError
from kpack.image import Compiled, Image, read_image
from kpack.paths import cache_dir
from kpack.spec import Plan, Variant
from kpack.target import Target, nearest

__all__ = ["check_options", "compile_text", "provenance"]

_WITH_PARSER = ("ttir", "ttgir")  # what triton.compile reads from a file


def check_options(name: str, options: Iterable[str], targets: Iterable[Target]) -> None:
    """Raises SpecError, with a line for each, where no target's backend knows an option."""
    known = frozenset().union(*(adapter._option_names(target) for target in targets))
    mistakes = [
        f"{name}: option {option!r}: expected one of {' '.join(sorted(known))}, got {option!r}{nearest(option, known)}"
        for option in sorted(options)
        if option not in known
    ]
    if mistakes:
        raise SpecError("\n".join(mistakes))


def provenance(targets: Iterable[Target]) -> dict[str, Any]:
    """What compiled it: as adapter.provenance, of what has no source in Python."""
    return {
        "triton": triton.__version__,
        "environment": dict(adapter._PINNED),
        "pinned": dict(adapter._PINNED_OPTIONS),
        "tools": {target.name: adapter._tool_version(target) for target in targets},
    }


def compile_text(
    plan: Plan, variant: Variant, target: Target, *, stage: str, text: str, unsaid: Compiled
) -> Image:
    """The image of a text of `stage`. `unsaid`: what a text after TTGIR does not say of its launch; without code."""
    with arch_suffix(target):
        compiled = _compile(plan, variant, target, stage, text, unsaid)
    return read_image(compiled)


def _compile(
    plan: Plan, variant: Variant, target: Target, stage: str, text: str, unsaid: Compiled
) -> Compiled:
    if stage not in _WITH_PARSER:
        return _run_stages(plan, variant, target, stage, text, unsaid)
    return adapter._compiled(plan, variant, target, _compile_file(plan, variant, target, stage, text))


def _compile_file(plan: Plan, variant: Variant, target: Target, stage: str, text: str) -> Any:
    key = hashlib.sha256(f"{target.suffix} {text}".encode()).hexdigest()[:32]
    os.environ["TRITON_CACHE_DIR"] = str(cache_dir() / "triton" / key)
    with tempfile.TemporaryDirectory(prefix="kpack-") as folder:
        path = Path(folder) / f"kernel.{stage}"
        path.write_text(text)
        return triton.compile(
            str(path), target=gpu_target(target), options=adapter._options(plan, variant, target)
        )


def _run_stages(
    plan: Plan, variant: Variant, target: Target, stage: str, text: str, unsaid: Compiled
) -> Compiled:
    """What triton.compile does after its parser: each stage of the backend that follows `stage`, in order."""
    backend = adapter._backend(target)
    options = backend.parse_options(
        {**adapter._options(plan, variant, target), "num_warps": unsaid.num_warps}
    )
    metadata: dict[str, Any] = {**vars(options), "target": gpu_target(target)}
    stages: dict[str, Any] = {}
    backend.add_stages(stages, options, Language.TRITON)
    llvm.init_targets()
    names = list(stages)
    asm: dict[str, Any] = {stage: text}
    module: Any = text
    for name in names[names.index(stage) + 1 :]:
        asm[name] = module = stages[name](module, metadata)
    said = SimpleNamespace(**metadata)
    cluster = (said.num_ctas, 1, 1)
    return replace(
        unsaid,
        code=adapter._code(target, asm),
        cluster=cluster,
        flags=adapter._flags(target, said, cluster),
        convention=100 * adapter._version()[0] + adapter._version()[1],
    )
