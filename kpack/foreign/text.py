"""What the text of a compiler's intermediate form says of its kernel: Triton's two, LLVM IR, PTX, AMD's assembly.

Only the head of a function is read; whether the rest is right, the compiler says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kpack.errors import FormatError, SpecError
from kpack.image import Facts, identify, read_facts
from kpack.objfile import abi
from kpack.target import nearest

__all__ = ["STAGES", "Parameter", "Text", "read_text"]

# The stages that a text may come from, by the ending of its file.
STAGES = {
    ".ttir": "ttir",
    ".ttgir": "ttgir",
    ".llir": "llir",
    ".ll": "llir",
    ".ptx": "ptx",
    ".amdgcn": "amdgcn",
    ".s": "amdgcn",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the kernel. `type`: as in a signature; "*" for a pointer to what the text does not say."""

    name: str
    type: str
    divisible: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """`parameters`: None where the text names none (assembly). `vendor`: VENDOR_ANY where it goes for both. `arch`:
    what it was made for, "90" or "gfx942"; empty where it does not say. `threads`: of a block, 0 likewise.
    `num_warps`, `num_ctas`: of TTGIR. `dynamic_shared`: whether shared memory is used whose size only a launch says."""

    stage: str
    content: str
    entry: str
    parameters: tuple[Parameter, ...] | None
    vendor: int = abi.VENDOR_ANY
    arch: str = ""
    threads: int = 0
    num_warps: int = 0
    num_ctas: int = 1
    dynamic_shared: bool = False


def read_text(stage: str, content: str, entry: str | None) -> Text:
    """Read a text of `stage`. Raises SpecError for one without such a kernel, or with several and no `entry`."""
    readers = {
        "ttir": _read_mlir,
        "ttgir": _read_mlir,
        "llir": _read_llvm,
        "ptx": _read_ptx,
        "amdgcn": _read_amdgcn,
    }
    return readers[stage](stage, content, entry)


def _choose(names: list[str], entry: str | None, what: str) -> str:
    if entry is not None and entry not in names:
        raise SpecError(
            f"entry: expected one of {' '.join(names) or '(none)'}, got {entry!r}{nearest(entry, names)}"
        )
    if entry is None and len(names) != 1:
        raise SpecError(
            f"expected one {what}, got {' '.join(names) or 'none'}{'; give entry=' if names else ''}"
        )
    return entry if entry is not None else names[0]


# ---- MLIR

_FUNCTION = re.compile(r'\btt\.func\s+(?P<private>private\s+)?(?:public\s+)?@(?P<name>[\w$.]+|"[^"]+")\s*\(')
_MODULE_ATTRIBUTE = r'(?:"{0}"|\b{0})\s*=\s*(?:"(?P<text>[^"]*)"|(?P<number>\d+))'
_LOCATION_NAME = re.compile(r'^(#loc\d*) = loc\("([^"]+)"\(', re.MULTILINE)
_PARAMETER = re.compile(r"%(?P<name>[\w$.-]+)\s*:\s*(?P<type>.*)", re.DOTALL)
_LOCATION = re.compile(r'\bloc\((?:"(?P<name>[^"]+)"\(|(?P<alias>#loc\d*)\))')
_POINTER = re.compile(r"!tt\.ptr<(?P<element>[\w.]+)(?:\s*,\s*\d+)?>")
_DESCRIPTOR = re.compile(
    r"!tt\.tensordesc<(?:tensor<)?(?P<sizes>(?:\d+x)+)(?P<element>\w+)(?P<layout>[,>].*)"
)
_ELEMENTS = {
    "f16": "fp16",
    "bf16": "bf16",
    "f32": "fp32",
    "f64": "fp64",
    "f8E4M3FN": "fp8e4nv",
    "f8E5M2": "fp8e5",
    "f8E4M3FNUZ": "fp8e4b8",
    "f8E5M2FNUZ": "fp8e5b16",
    **{name: name for name in ("i1", "i8", "i16", "i32", "i64")},
}


def _read_mlir(stage: str, content: str, entry: str | None) -> Text:
    functions = {
        found["name"].strip('"'): found for found in _FUNCTION.finditer(content) if not found["private"]
    }
    name = _choose(list(functions), entry, "public tt.func")
    if len(functions) > 1:
        raise SpecError(
            f"expected one public tt.func, got {' '.join(functions)}; Triton compiles one at a time"
        )
    inside = _inside(content, functions[name].end() - 1)
    # A pass or a user may have renamed the values; where a parameter came from, its location says.
    named = dict(_LOCATION_NAME.findall(content))
    parameters = tuple(_grouped([_parameter(text, named) for text in _split(inside)]))
    said = {key: _module_attribute(content, key) for key in ("ttg.target", "ttg.num-warps", "ttg.num-ctas")}
    if stage == "ttgir" and not (said["ttg.target"] and said["ttg.num-warps"]):
        raise SpecError("expected ttg.target and ttg.num-warps among the attributes of the module, got none")
    if stage == "ttgir" and any(parameter.type.startswith("tensordesc") for parameter in parameters):
        raise SpecError(
            "expected no tensor descriptor in TTGIR, got one; how it is encoded is decided before: give TTIR"
        )
    vendor, _, arch = said["ttg.target"].partition(":")
    return Text(
        stage,
        content,
        name,
        parameters,
        vendor={"cuda": abi.VENDOR_CUDA, "hip": abi.VENDOR_HIP}.get(vendor, abi.VENDOR_ANY),
        arch=arch,
        num_warps=_count(said["ttg.num-warps"] or "0", "ttg.num-warps"),
        num_ctas=_count(said["ttg.num-ctas"] or "1", "ttg.num-ctas"),
    )


def _module_attribute(content: str, key: str) -> str:
    module = re.search(r"^\s*module\b[^\n]*", content, re.MULTILINE)
    found = re.search(_MODULE_ATTRIBUTE.format(re.escape(key)), module[0]) if module else None
    return (found["text"] or found["number"]) if found else ""


def _count(text: str, key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise SpecError(f"{key}: expected a number, got {text[:60]!r}")
    return int(text)


def _parameter(text: str, named: dict[str, str]) -> Parameter:
    match = _PARAMETER.match(text.strip())
    if match is None:
        raise SpecError(f"expected a parameter '%name: type', got {text.strip()[:60]!r}")
    written = match["type"]
    type_ = _mlir_type(written.strip())
    name = match["name"]
    if re.fullmatch(r"(arg)?\d+", name):
        location = _LOCATION.search(written)
        said = (location["name"] or named.get(location["alias"] or "", "")) if location else ""
        name = said if said.isidentifier() else f"arg{name.removeprefix('arg')}"
    divisible = re.search(r"\btt\.divisibility\s*=\s*(\d+)", written)
    return Parameter(name, type_, divisible is not None and int(divisible[1]) % 16 == 0)


def _mlir_type(text: str) -> str:
    if match := _POINTER.match(text):
        return "*" + _ELEMENTS.get(match["element"], "")
    if match := _DESCRIPTOR.match(text):
        sizes = match["sizes"].rstrip("x").replace("x", ",")
        return f"tensordesc<{_ELEMENTS.get(match['element'], match['element'])}[{sizes}]>"
    word = re.match(r"\w+", text)
    if word and word[0] in _ELEMENTS:
        return _ELEMENTS[word[0]]
    raise SpecError(f"expected a parameter of a type that a call can pass, got {text[:60]!r}")


def _grouped(parameters: list[Parameter]) -> Iterator[Parameter]:
    """Triton's front end passes a descriptor's shape and strides beside it; to a caller all three are one."""
    at = 0
    while at < len(parameters):
        parameter = parameters[at]
        at += 1
        if parameter.type.startswith("tensordesc"):
            rank = parameter.type.count(",") + 1
            beside = [each.type for each in parameters[at : at + 2 * rank]]
            if beside != ["i32"] * rank + ["i64"] * rank:
                raise SpecError(
                    f"parameter {parameter.name!r}: expected the shape (i32) and strides (i64) of the descriptor "
                    f"after it, got {' '.join(beside) or 'nothing'}"
                )
            at += 2 * rank
        yield parameter


# ---- LLVM IR

_DEFINE = re.compile(r'^define\b(?P<before>[^\n@]*)@(?P<name>[\w$.]+|"[^"]+")\s*\(', re.MULTILINE)
_KERNEL_WORDS = ("amdgpu_kernel", "ptx_kernel")
_TRIPLE = re.compile(r'^target triple = "(?P<machine>[^-"]*)', re.MULTILINE)
_LLVM_TYPES = {"half": "fp16", "bfloat": "bf16", "float": "fp32", "double": "fp64", "ptr": "*"}
_THREADS = re.compile(r'"nvvm\.reqntid"="(\d+)(?:,1)*"|"amdgpu-flat-work-group-size"="\d+,(\d+)"')
_DYNAMIC_SHARED = re.compile(r"^@[\w$.\"]+ = external [^\n]*addrspace\(3\) global \[0 x i8\]", re.MULTILINE)


def _read_llvm(stage: str, content: str, entry: str | None) -> Text:
    defined = {found["name"].strip('"'): found for found in _DEFINE.finditer(content)}
    annotated = set(re.findall(r'!\{ptr @([\w$.]+), !"kernel", i32 1\}', content))
    kernels = {
        name: found
        for name, found in defined.items()
        if name in annotated or any(word in found["before"] for word in _KERNEL_WORDS)
    }
    name = _choose(list(kernels), entry, "kernel (ptx_kernel or amdgpu_kernel)")
    if len(kernels) > 1:
        raise SpecError(f"expected one kernel, got {' '.join(kernels)}; Triton compiles one at a time")
    found = kernels[name]
    start = found.end() - 1
    inside = _inside(content, start)
    rest = content[start + len(inside) + 2 :].partition("{")[0]
    group = re.search(r"#\d+", rest)
    attributes = re.search(rf"^attributes {group[0]} = \{{[^\n]*", content, re.MULTILINE) if group else None
    threads = _THREADS.search(attributes[0]) if attributes else None
    return Text(
        stage,
        content,
        name,
        tuple(Parameter(f"arg{number}", _llvm_type(text)) for number, text in enumerate(_split(inside))),
        vendor=_llvm_vendor(content, found["before"]),
        threads=int(threads[1] or threads[2]) if threads else 0,
        dynamic_shared=_DYNAMIC_SHARED.search(content) is not None,
    )


def _llvm_vendor(content: str, before: str) -> int:
    triple = _TRIPLE.search(content)
    machine = triple["machine"] if triple else ""
    if machine.startswith("amd") or "amdgpu_kernel" in before:
        return abi.VENDOR_HIP
    return abi.VENDOR_CUDA


def _llvm_type(text: str) -> str:
    word = re.match(r"\w+", text.strip())
    if word is None or "byval" in text:
        raise SpecError(f"expected a parameter of a type that a call can pass, got {text.strip()[:60]!r}")
    return _LLVM_TYPES.get(word[0], word[0])


# ---- assembly


def _read_ptx(stage: str, content: str, entry: str | None) -> Text:
    try:
        contents = identify(content.encode())
        name = _choose(list(contents.entries), entry, "entry")
        facts: Facts = read_facts(contents.code, abi.IMAGE_PTX, name)
    except FormatError as error:
        raise SpecError(str(error)) from error
    shared = re.search(r"\.extern\s+\.shared\b", content) is not None
    return Text(stage, content, name, None, abi.VENDOR_CUDA, threads=facts.block[0], dynamic_shared=shared)


def _read_amdgcn(stage: str, content: str, entry: str | None) -> Text:
    name = _choose(
        re.findall(r"^\s*\.amdhsa_kernel\s+([\w$.]+)", content, re.MULTILINE), entry, ".amdhsa_kernel"
    )
    target = re.search(r'\.amdgcn_target\s+"[^"]*-(gfx[^":]+)', content)
    threads = re.search(r"\.max_flat_workgroup_size:\s*(\d+)", content)
    return Text(
        stage,
        content,
        name,
        None,
        abi.VENDOR_HIP,
        arch=target[1] if target else "",
        threads=int(threads[1]) if threads else 0,
    )


# ---- lists in parentheses

_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*(?:"|\Z)|->|[()\[\]{}<>,]')


def _inside(text: str, start: int) -> str:
    """What the parenthesis at `start` encloses."""
    open_: list[str] = []
    for token in _TOKEN.finditer(text, start):
        if token[0] in _BRACKETS:
            open_.append(_BRACKETS[token[0]])
        elif open_ and token[0] == open_[-1]:
            open_.pop()
            if not open_:
                return text[start + 1 : token.start()]
    raise SpecError("expected the parameters of the function to end, got the end of the text")


def _split(text: str) -> list[str]:
    """The items of a list, at commas that no bracket encloses."""
    items, begin, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in _BRACKETS:
            depth += 1
        elif token[0] in _BRACKETS.values():
            depth -= 1
        elif token[0] == "," and depth == 0:
            items.append(text[begin : token.start()])
            begin = token.end()
    items.append(text[begin:])
    return [item for item in items if item.strip()]
