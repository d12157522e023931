"""The pipeline: kernels in, a pack out, to be written as a static archive."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpack.errors import SpecError
from kpack.find import Source, find_kernels
from kpack.image import Image
from kpack.naming import check_pack_name
from kpack.objfile.archive import write_archive
from kpack.objfile.encode import encode_index, encode_kernel
from kpack.objfile.host import find_host
from kpack.progress import progress_bar
from kpack.spec import Plan, expand
from kpack.target import Target, parse_targets

__all__ = ["Pack", "build", "pack_name_of"]

VERSION = "0.1.0"


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

    kernels   a Python file, a folder of them, a module, a Kernel, or a list of all of these
    arch      one name or several: "sm_90" (cubin), "ptx_80" (PTX), "gfx90a" (hsaco)
    name      the pack's; without one, it is the archive's file name without `lib`
    host      the machine of the programs that will link the archive: x86_64 or aarch64
    jobs      processes to compile with; one a core if not given
    progress  show a bar; if not given, where there is a terminal

    Raises SpecError (a TargetError for an arch) before anything is compiled, with a line for each mistake;
    PackError for a host; CompileError, whose `failures` are all variants that did not compile.
    """
    # What is wrong without compiling is refused before compiling: it takes minutes. Where the archive goes is
    # not known yet, so a file name that names no pack is refused by `write`, unless there is a `name`.
    if name is not None:
        check_pack_name(name)
    if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1):
        raise SpecError(f"jobs: expected 1 or more, got {jobs!r}")
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


@dataclass(frozen=True, slots=True, repr=False)  # a repr of all images would be megabytes
class Pack:
    """Compiled kernels, ready to be written as an archive. Made by `build`."""

    name: str | None
    host: str
    targets: tuple[Target, ...]
    parts: tuple[_Part, ...]

    def __repr__(self) -> str:
        kernels = ", ".join(plan.name for plan in self.plans)
        count, targets = len(self.images), ", ".join(target.name for target in self.targets)
        images = f"{count} image{'s' if count != 1 else ''}"
        return f"<pack {self.name or '(named by its file)'}: {kernels}; {images} for {targets}>"

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What was built, a plan a kernel, by name."""
        return tuple(part.plan for part in self.parts)

    @property
    def images(self) -> tuple[Image, ...]:
        """All machine code, with its facts: kernel after kernel, variant after variant."""
        return tuple(image for part in self.parts for _, image in part.images)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the archive to `path`, all of it or nothing, and say where it is.

        Raises SpecError when the pack has no name and the file's is none, and PackError when the archive
        cannot be written.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise SpecError(f"path: expected where to write the archive, got {path!r}")
        archive = Path(path)
        name = self.name if self.name is not None else pack_name_of(archive)
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


def pack_name_of(archive: Path, option: str = "name=") -> str:
    """The pack's name by its file's; `option` is how the caller's user would give another."""
    stem = archive.stem.removeprefix("lib")
    try:
        return check_pack_name(stem)
    except SpecError as error:
        raise SpecError(f"{error}, from the file name {archive.name!r}; give {option}") from None
