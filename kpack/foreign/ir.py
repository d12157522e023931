"""`IR`: a kernel as a compiler's intermediate form, which Triton's own pipeline compiles from there on."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from kpack.errors import SpecError
from kpack.foreign.declared import attempt, declare, one_variant, packed_arguments, place_of_caller
from kpack.foreign.scratch import Scratch, scratch_mistakes, scratch_sizes, scratch_slots
from kpack.foreign.text import STAGES, Text, read_text
from kpack.image import Compiled, Image
from kpack.naming import check_kernel_name
from kpack.needs import needing
from kpack.objfile import abi
from kpack.spec import DEFAULT_NUM_WARPS, Arg, Kernel, Plan, Value, Variant
from kpack.target import Target, parse_target

__all__ = ["IR"]

File = str | os.PathLike[str]
_AFTER_TTGIR = ("llir", "ptx", "amdgcn")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IR:
    """A kernel given as TTIR, TTGIR, LLVM IR, PTX or AMD assembly, and what its call is.

    files       a file, or files by target ({"sm_90": "k.ttgir", "gfx942": "k.llir"}): .ttir, .ttgir, .llir or .ll,
                .ptx, .amdgcn or .s. TTIR is compiled for all targets, TTGIR for the one it was made for, the others
                for those of their vendor. Relative paths start from the working directory
    name        a C identifier; without one, the function's
    signature   a Kernel's, of every argument in order; without "?": the code was compiled one way. TTIR and TTGIR say
                it themselves, with the names in the text; given, it renames, and is compared. Arguments that were
                made constants are no part of the text: ":1" and ":none" put them into the call. What the text says to
                be divisible by 16, a launch checks; what it says of pointer ranges (tt.pointer_range = 32: less than
                2 GB behind it) it cannot
    grid, guard, constexprs, args
                as of `Images`; but the grid is Triton's, in clusters where num_ctas is more than 1
    options     compiler options; for TTGIR, num_warps and num_ctas are what it says
    entry       the name of the device function; without one, the text's only kernel
    num_warps   without it, what the text says, or for TTIR 4
    shared      bytes of dynamic shared memory of what follows TTGIR, which does not say it
    scratch     of what follows TTGIR, as of `Images`: Triton's trailing pointers

    Raises SpecError, with a line for each mistake.
    """

    files: File | Mapping[str, File] = field(kw_only=False)
    name: str = field(default="", kw_only=False)
    signature: Mapping[str, str] | None = None
    grid: Any = None
    guard: Any = None
    constexprs: Mapping[str, Value] = field(default_factory=dict)
    options: Mapping[str, Value] = field(default_factory=dict)
    entry: str | None = None
    num_warps: int | None = None
    shared: int | None = None
    scratch: Mapping[str, Scratch] = field(default_factory=dict)
    args: Mapping[str, Arg | Mapping[str, Any]] = field(default_factory=dict)
    kernel: Kernel = field(init=False, repr=False)
    texts: Mapping[str, Text] = field(init=False, repr=False)
    """by target name; "" for all"""
    source: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        texts = _read_files(self)
        object.__setattr__(self, "texts", texts)
        object.__setattr__(self, "name", self.name or next(iter(texts.values())).entry)
        check_kernel_name(self.name)
        mistakes = [
            f"{self.name}: {line}" for line in (*_check_numbers(self), *scratch_mistakes(self.scratch))
        ]
        kernel = attempt(partial(_declare, self), mistakes)
        if mistakes or kernel is None:
            raise SpecError("\n".join(mistakes))
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "source", place_of_caller())

    def expand(self, targets: Sequence[Target]) -> Plan:
        """The plan of a build for `targets`: the variant is compiled for those that there is a text for."""
        chosen = {target: text for target in targets if (text := self._text_for(target))}
        if not chosen:
            names = " or ".join(target.name for target in targets)
            raise SpecError(f"{self.name}: expected a text for {names}, got {_made_for(self.texts)}")
        with needing("kpack.IR"):
            from kpack.compile import lower

        lower.check_options(self.name, self.options, chosen)
        warps = {target: self._num_warps(target, text) for target, text in chosen.items()}
        plan = one_variant(
            self.kernel,
            list(chosen),
            name="w" + "_".join(dict.fromkeys(map(str, warps.values()))),
            entry=next(iter(chosen.values())).entry,
            options=tuple(sorted({**self.options, "num_warps": next(iter(warps.values()))}.items())),
            source=self.source,
            producer=partial(self._compile, chosen, warps),
            origin=_origin(chosen, lower.provenance(chosen), self.options),
        )
        mistakes = [line for text in chosen.values() for line in self._compare(plan, text)]
        if mistakes:
            raise SpecError("\n".join(f"{self.name}: {line}" for line in dict.fromkeys(mistakes)))
        return plan

    def _text_for(self, target: Target) -> Text | None:
        text = self.texts.get(target.name) or self.texts.get("")
        if text is None or not target.compiled:
            return None
        arch = str(target.arch) if target.vendor == abi.VENDOR_CUDA else target.processor
        same_vendor = text.vendor in (abi.VENDOR_ANY, target.vendor)
        return text if same_vendor and text.arch in ("", arch) else None

    def _num_warps(self, target: Target, text: Text) -> int:
        if text.num_warps:
            return text.num_warps
        given = self.num_warps or self.options.get("num_warps")
        if isinstance(given, int):
            return given
        if text.stage == "ttir":
            return DEFAULT_NUM_WARPS
        if not text.threads or text.threads % target.warp_size:
            raise SpecError(f"{self.name}: expected num_warps=, since the text does not say it, got none")
        return text.threads // target.warp_size

    def _compile(
        self,
        texts: Mapping[Target, Text],
        warps: Mapping[Target, int],
        plan: Plan,
        variant: Variant,
        target: Target,
    ) -> Image:
        from kpack.compile import lower

        text, options = texts[target], {**self.options, "num_warps": warps[target]}
        if text.stage == "ttgir":
            options["num_ctas"] = text.num_ctas
        global_bytes, global_align = scratch_sizes(self.scratch, "global")
        profile_bytes, profile_align = scratch_sizes(self.scratch, "profile")
        unsaid = Compiled(
            target=target,
            entry=text.entry,
            code=b"",
            arguments=packed_arguments(plan, variant),
            hidden=scratch_slots(self.scratch),
            num_warps=warps[target],
            warp_size=target.warp_size,
            shared_bytes=self.shared or 0,
            global_scratch_bytes=global_bytes,
            global_scratch_align=global_align,
            profile_scratch_bytes=profile_bytes,
            profile_scratch_align=profile_align,
        )
        own = replace(variant, entry=text.entry, options=tuple(sorted(options.items())))
        return lower.compile_text(plan, own, target, stage=text.stage, text=text.content, unsaid=unsaid)

    def _compare(self, plan: Plan, text: Text) -> list[str]:
        """What the signature and the parameters of the text do not agree on."""
        (variant,) = plan.variants
        if text.parameters is None:
            return []
        folded = variant.equal_1 | variant.null
        declared = [argument for index, argument in enumerate(variant.arguments) if index not in folded]
        hidden = len(scratch_slots(self.scratch)) if text.stage in _AFTER_TTGIR else 0
        expected = [*declared, *[("scratch", "*void")] * hidden]
        if len(expected) != len(text.parameters):
            said = " ".join(parameter.type for parameter in text.parameters)
            return [
                f"signature: expected {len(text.parameters)} arguments ({said}) by the text of {text.entry}, got "
                f"{len(expected)} that are not ':1' or ':none'{_scratch_hint(text, len(expected))}"
            ]
        return [
            f"argument {name!r}: expected {parameter.type} by the text, got {type_}"
            for (name, type_), parameter in zip(expected, text.parameters, strict=True)
            if not _agree(type_, parameter.type)
        ]


# ---- reading files


def _read_files(ir: IR) -> dict[str, Text]:
    files: Any = ir.files
    listed = list(files.items()) if isinstance(files, Mapping) else [("", files)]
    if not listed:
        raise SpecError("files: expected one file or more, got none")
    mistakes: list[str] = []
    texts: dict[str, Text] = {}
    for target, file in listed:
        if target:
            attempt(partial(parse_target, target), mistakes)
        if not isinstance(file, (str, os.PathLike)):
            mistakes.append(f"files: expected a path, got {file!r}")
            continue
        found: list[str] = []
        text = attempt(partial(_read_file, Path(file), ir.entry), found)
        mistakes += [f"{Path(file).name}: {line}" for line in found]
        if text:
            texts[target] = text
    if mistakes:
        raise SpecError("\n".join(f"{ir.name}: {line}" if ir.name else line for line in mistakes))
    return texts


def _read_file(path: Path, entry: str | None) -> Text:
    stage = STAGES.get(path.suffix)
    if stage is None:
        raise SpecError(f"expected a file that ends in {' '.join(STAGES)}, got {path.suffix!r}")
    try:
        content = path.read_text()
    except OSError as error:
        raise SpecError(f"expected a file to read, got {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"expected text, got byte {error.object[error.start]:#x} at {error.start}") from error
    return read_text(stage, content, entry)


def _made_for(texts: Mapping[str, Text]) -> str:
    vendors = {abi.VENDOR_ANY: "any", abi.VENDOR_CUDA: "cuda", abi.VENDOR_HIP: "hip"}
    return ", ".join(
        f"{text.stage} for {target or ':'.join(filter(None, (vendors[text.vendor], text.arch)))}"
        for target, text in texts.items()
    )


# ---- the call


def _declare(ir: IR) -> Kernel:
    texts = list(ir.texts.values())
    signature = ir.signature
    if signature is None:
        signature = _signature_of(ir.name, texts[0])
    elif isinstance(signature, Mapping):
        signature = _with_divisibility(signature, texts)
    return declare(
        ir.name,
        signature,
        constexprs=ir.constexprs,
        guard=ir.guard,
        grid=ir.grid,
        args=ir.args,
        options=ir.options,
    )


def _signature_of(name: str, text: Text) -> dict[str, str]:
    parameters = text.parameters
    if parameters is None or text.stage in _AFTER_TTGIR:
        raise SpecError(
            f"{name}: signature: expected one, since {text.stage} does not say the types, got none"
        )
    unsaid = [parameter.name for parameter in parameters if parameter.type == "*"]
    if unsaid:
        raise SpecError(
            f"{name}: signature: expected one, since the text does not say what {unsaid[0]!r} points to, got none"
        )
    signature = {each.name: each.type + (":16" if each.divisible else "") for each in parameters}
    if len(signature) < len(parameters):
        raise SpecError(f"{name}: signature: expected one, since names in the text repeat, got none")
    return signature


def _with_divisibility(signature: Mapping[str, str], texts: Sequence[Text]) -> dict[str, str]:
    """The signature, and what the texts take for divisible by 16."""
    passed = [name for name, text in signature.items() if not _is_folded(text)]
    for text in texts:
        divisible = [parameter.divisible for parameter in text.parameters or ()]
        signature = {
            name: f"{given}:16"
            if name in passed[: len(divisible)]
            and divisible[passed.index(name)]
            and "16" not in _hints(given)
            else given
            for name, given in signature.items()
        }
    return dict(signature)


def _hints(text: str) -> list[str]:
    return [hint.strip() for hint in text.split(":")[1:]] if isinstance(text, str) else []


def _is_folded(text: str) -> bool:
    return bool({"1", "none"} & set(_hints(text)))


_UNSIGNED = re.compile(r"\bu(?=(8|16|32|64)\b)")


def _agree(declared: str, said: str) -> bool:
    """Whether a type of a signature is that of the text, which knows no signs, and only some floats of 8 bits."""
    if said == "*":
        return declared.startswith("*")
    plain = _UNSIGNED.sub("i", declared.replace(" ", ""))
    return said in (plain, plain.replace("fp8e4b15", "i8"), plain.replace("void", "i8"))


def _scratch_hint(text: Text, expected: int) -> str:
    trailing = [parameter.type for parameter in (text.parameters or ())[expected:]]
    if text.stage not in _AFTER_TTGIR or trailing not in (["*"], ["*", "*"]):
        return ""
    names = dict.fromkeys(("global", "profile")[: len(trailing)], 0)
    return f"; if the last {len(trailing)} are pointers to scratch memory, as in Triton's code, give scratch={names}"


def _check_numbers(ir: IR) -> list[str]:
    mistakes = []
    options: Mapping[str, Value] = ir.options if isinstance(ir.options, Mapping) else {}
    if ir.num_warps is not None:
        options = {**options, "num_warps": ir.num_warps}
    if ir.num_warps is not None and not (type(ir.num_warps) is int and ir.num_warps > 0):
        mistakes.append(f"num_warps: expected 1 or more, got {ir.num_warps!r}")
    if ir.shared is not None and not (type(ir.shared) is int and ir.shared >= 0):
        mistakes.append(f"shared: expected a number of bytes, got {ir.shared!r}")
    for text in ir.texts.values():
        late = text.stage in _AFTER_TTGIR
        if late and text.dynamic_shared and ir.shared is None:
            mistakes.append(
                f"shared: expected bytes, since {text.entry} uses shared memory of any size, got none"
            )
        for option, said in (("num_warps", text.num_warps), ("num_ctas", text.num_ctas)):
            given = options.get(option, said)
            if text.stage == "ttgir" and given != said:
                mistakes.append(f"{option}: expected {said}, as the text says, got {given!r}")
    if all(text.stage not in _AFTER_TTGIR for text in ir.texts.values()):
        mistakes += [
            f"{field}: expected it of LLVM IR, PTX or assembly, got it of {next(iter(ir.texts.values())).stage}, "
            "from which the compiler finds it"
            for field, given in (("shared", ir.shared), ("scratch", ir.scratch or None))
            if given is not None
        ]
    return mistakes


def _origin(
    texts: Mapping[Target, Text], compiler: Mapping[str, Any], options: Mapping[str, Value]
) -> dict[str, Any]:
    hashes = {
        target.name: hashlib.sha256(text.content.encode()).hexdigest() for target, text in texts.items()
    }
    return {
        **compiler,
        "ir": {
            target.name: {"stage": text.stage, "entry": text.entry, "sha256": hashes[target.name]}
            for target, text in texts.items()
        },
        "options": {name: str(value) for name, value in options.items()},
        "source_key": f"ir-{compiler['triton']}-{sorted(hashes.items())}",
    }
