"""The pipeline: kernels in, a pack out, to be written as a static archive."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from kpack.errors import SpecError
from kpack.image import Image
from kpack.naming import check_pack_name
from kpack.objfile.archive import write_archive
from kpack.objfile.elf import find_host
from kpack.objfile.encode import encode_index, encode_kernel
from kpack.progress import progress_bar
from kpack.spec import Kernel, Plan, expand
from kpack.target import Target, parse_targets

__all__ = ["Pack", "build", "find_kernels"]

VERSION = "0.1.0"

Source = str | os.PathLike[str] | ModuleType | Kernel | Iterable[Kernel]


def build(
    kernels: Source,
    arch: str | Iterable[str],
    *,
    name: str | None = None,
    host: str = "x86_64",
    jobs: int | None = None,
    progress: bool | None = None,
) -> Pack:
    """Compile every variant of `kernels` for every `arch`, without a GPU.

    kernels   a Python file, a folder of them, a module, a Kernel, or several Kernels
    name      the pack's; without one, it is the archive's file name without `lib`
    host      the machine of the programs that will link the archive: x86_64 or aarch64
    jobs      processes to compile with; one a core if not given
    progress  show a bar; if not given, where there is a terminal
    """
    # What can be wrong without compiling is refused before compiling: it takes minutes.
    if name is not None:
        check_pack_name(name)
    find_host(host)
    targets = parse_targets(arch)

    # A file is a module like any other; what it defines at top level and is a Kernel, is built.
    found = find_kernels(kernels)

    # Each kernel unfolds into all choices of types, constexprs and configs.
    plans = tuple(expand(kernel, targets) for kernel in found)

    # Triton is first needed here; it also knows which options there are.
    from kpack.compile import adapter, pool

    adapter.check(plans, targets)

    # Each variant for each target is a job of its own; all failures are reported together.
    todo = pool.jobs_of(plans)
    with progress_bar("compiling", len(todo), progress) as step:
        images = pool.compile_all(
            todo,
            processes=jobs,
            done=lambda job, succeeded: step(
                f"{job.plan.variants[job.variant].entry} {job.target.name}", succeeded
            ),
        )

    # Packing is left to write(): it takes the archive's name, and no time.
    return Pack(
        name=name,
        host=host,
        targets=targets,
        parts=tuple(
            _Part(
                plan=plan,
                images=tuple(
                    (job.variant, image) for job, image in zip(todo, images, strict=True) if job.plan is plan
                ),
                info=_info(adapter.provenance(plan, targets)),
                source_key=adapter.source_key(plan),
            )
            for plan in plans
        ),
    )


def _info(provenance: Mapping[str, Any]) -> str:
    return json.dumps({"kpack": VERSION, **provenance}, sort_keys=True, indent=1)


@dataclass(frozen=True, slots=True)
class _Part:
    """A kernel of a pack: its images by variant, and where they come from."""

    plan: Plan
    images: tuple[tuple[int, Image], ...]
    info: str
    source_key: str


@dataclass(frozen=True, slots=True)
class Pack:
    """Compiled kernels, ready to be written as an archive."""

    name: str | None
    host: str
    targets: tuple[Target, ...]
    parts: tuple[_Part, ...]

    @property
    def plans(self) -> tuple[Plan, ...]:
        return tuple(part.plan for part in self.parts)

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(image for part in self.parts for _, image in part.images)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the archive, all of it or nothing, and say where it is."""
        archive = Path(path)
        name = self.name if self.name is not None else _name_from(archive)
        members = [
            encode_kernel(
                name,
                part.plan,
                {(variant, image.target.name): image for variant, image in part.images},
                info=part.info,
                host=self.host,
                source_key=part.source_key,
            )
            for part in self.parts
        ]
        write_archive(archive, [*members, encode_index(name, members, host=self.host)])
        return archive


def _name_from(archive: Path) -> str:
    stem = archive.stem.removeprefix("lib")
    try:
        return check_pack_name(stem)
    except SpecError as error:
        raise SpecError(f"{error}, from the file name {archive.name!r}; give build() a name=") from None


# ---- finding kernels


def find_kernels(source: Source) -> tuple[Kernel, ...]:
    """The kernels that `source` is or holds, by name. Raises SpecError for none, and for two of one name."""
    found: dict[str, tuple[Kernel, str]] = {}
    for kernel, place in _kernels_in(source):
        other, other_place = found.setdefault(kernel.name, (kernel, place))
        if not _same(kernel, other):
            raise SpecError(
                f"kernel {kernel.name!r}: expected one of this name, got one in {other_place} and one in {place}; "
                "give one of them another name="
            )
    if not found:
        raise SpecError(f"kernels: expected at least one kpack.Kernel in {_describe(source)}, got none")
    return tuple(found[name][0] for name in sorted(found))


def _describe(source: Source) -> str:
    if isinstance(source, ModuleType):
        return f"module {source.__name__}"
    return repr(str(source)) if isinstance(source, (str, os.PathLike)) else repr(source)


def _kernels_in(source: Source) -> Iterator[tuple[Kernel, str]]:
    """Each kernel, and where it is for messages."""
    if isinstance(source, Kernel):
        yield source, source.checked.function.source
    elif isinstance(source, ModuleType):
        for kernel in _members(vars(source).values()):
            yield kernel, f"module {source.__name__}"
    elif isinstance(source, (str, os.PathLike)):
        for file in _files(Path(source)):
            for kernel in _members(vars(_load(file)).values()):
                yield kernel, str(file)
    else:
        for item in _each(source):
            if not isinstance(item, Kernel):
                raise SpecError(f"kernels: expected a kpack.Kernel, got {item!r}")
            yield item, item.checked.function.source


def _each(source: Any) -> Iterator[Any]:
    try:
        return iter(source)
    except TypeError:
        raise SpecError(
            f"kernels: expected a file, a folder, a module, a kpack.Kernel or several, got {source!r}"
        ) from None


def _members(values: Iterable[object]) -> Iterator[Kernel]:
    """The kernels among a module's values, and in its lists, tuples and dicts."""
    for value in list(values):
        if isinstance(value, Kernel):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (item for item in value if isinstance(item, Kernel))
        elif isinstance(value, dict):
            yield from (item for item in value.values() if isinstance(item, Kernel))


def _files(path: Path) -> Sequence[Path]:
    """The Python files of a folder, without private and test ones, or the one that `path` is."""
    if path.is_dir():
        return [
            file
            for file in sorted(path.glob("*.py"))
            if not file.name.startswith(("_", "test_", "conftest", "setup."))
        ]
    if not path.is_file():
        raise SpecError(f"kernels: expected a file or folder, got {str(path)!r}, which does not exist")
    return [path]


def _load(file: Path) -> ModuleType:
    """Run a file as a module, with its folder on sys.path for what it imports from beside it."""
    # The folder is no part of the name: Triton mangles it into device functions, and bytes would differ. In
    # sys.modules, since dataclasses and typing look there for the module of a class.
    name = "kpack_kernels_" + re.sub(r"\W", "_", file.stem)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SpecError(f"kernels: expected a Python file, got {str(file)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(file.parent.resolve())
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SpecError(f"{_place(error, file)}: {_say(error)}") from error
    finally:
        sys.path.remove(folder)
    return module


def _say(error: BaseException) -> str:
    return str(error) if isinstance(error, SpecError) else f"{type(error).__name__}: {error}"


def _place(error: BaseException, file: Path) -> str:
    """The file and line that failed to load: the last step of the traceback that lies in it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _same(one: Kernel, other: Kernel) -> bool:
    """Whether two kernels are one, perhaps from a file that was loaded twice, by us and by a neighbour."""
    return one is other or _content(one) == _content(other)


def _content(kernel: Kernel) -> object:
    given = (getattr(kernel, field.name) for field in fields(Kernel) if field.name != "checked")
    return tuple(map(_comparable, given))


def _comparable(value: Any) -> object:
    code = getattr(value, "__code__", None) or getattr(getattr(value, "fn", None), "__code__", None)
    if isinstance(code, CodeType):
        return code.co_filename, code.co_firstlineno, code.co_code
    if isinstance(value, Mapping):
        return tuple((name, _comparable(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_comparable, value))
    return str(value)  # triton.Config says in its text all that it holds
