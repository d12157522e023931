"""The pipeline: kernels in, a pack out, to be written as a static archive."""

from __future__ import annotations

import json
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpack.errors import Failure, SpecError, TargetError
from kpack.find import Source, find_kernels
from kpack.image import Image, why_unfit
from kpack.naming import check_pack_name
from kpack.needs import needing
from kpack.objfile.archive import write_archive
from kpack.objfile.encode import encode_index, encode_kernel, encode_tuning
from kpack.objfile.host import find_host
from kpack.progress import progress_bar
from kpack.spec import Kernel, Plan, expand, takes_all_of, without
from kpack.target import Target, parse_targets
from kpack.tuning.bake import Baked, bake, unneeded
from kpack.tuning.table import Entry
from kpack.tuning.tables import Tables, foreign_entries, read_tables, unused_entries

if TYPE_CHECKING:
    from kpack.compile.pool import Job

__all__ = ["Pack", "build", "expand_all", "origin_of", "pack_name_of"]

VERSION = "0.1.0"


def build(
    kernels: Source,
    arch: str | Iterable[str],
    *,
    name: str | None = None,
    host: str = "x86_64",
    jobs: int | None = None,
    progress: bool | None = None,
    on_error: str = "raise",
    timeout_s: float = 600.0,
    tuned: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    keep: str = "all",
    part: bool = False,
) -> Pack:
    """Compile every variant of `kernels` for every `arch`, without a GPU.

    kernels    a Python file, a folder of them, a module, a Kernel, or a list of all of these
    arch       one name or several: "sm_90" (cubin), "ptx_80" (PTX), "gfx90a" (hsaco)
    name       the pack's; without one, it is the archive's file name without `lib`
    host       the machine of the programs that will link the archive: x86_64 or aarch64
    jobs       processes to compile with; one a core if not given
    progress   show a bar; if not given, where there is a terminal
    on_error   "raise", or "skip": pack what did compile; the archive says of the rest why it is missing. A kernel
               of which nothing compiled is packed, too, so that programs link, and a launch of it says why
    timeout_s  for one variant and target, seconds; then its compiler is ended, which is a failure like others
    tuned      tuning tables, one path or several, to bake in: of one key the last entry. Entries that are not of these
               kernels, variants and targets are left out with a warning that counts them by file and reason
    keep       "all" variants, or "tuned": for targets and overloads that the tables have entries of, those that an
               entry chooses, and as few others as all calls of the rest need
    part       one of several archives that `kpack.join.join` makes one: of entries of other kernels nothing is said

    What compiles, but needs more threads or shared memory than any device of its target has, is left out where there
    is an alternative for all of its calls; otherwise it is packed, with a warning.

    Raises SpecError (a TargetError for an arch) before anything is compiled, with a line for each mistake;
    PackError for a host; CompileError, whose `failures` are all variants that did not compile, with "skip" only
    if none did.
    """
    # What is wrong without compiling is refused before compiling: it takes minutes. Where the archive goes is
    # not known yet, so a file name that names no pack is refused by `write`, unless there is a `name`.
    if name is not None:
        check_pack_name(name)
    if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1):
        raise SpecError(f"jobs: expected 1 or more, got {jobs!r}")
    if on_error not in ("raise", "skip"):
        raise SpecError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
    if not isinstance(timeout_s, (int, float)) or isinstance(timeout_s, bool) or not timeout_s > 0:
        raise SpecError(f"timeout_s: expected more than 0 seconds, got {timeout_s!r}")
    if keep not in ("all", "tuned"):
        raise SpecError(f"keep: expected 'all' or 'tuned', got {keep!r}")
    find_host(host)
    targets = parse_targets(arch)
    tables = read_tables([tuned] if isinstance(tuned, (str, os.PathLike)) else tuned)

    # A file is a module like any other; what it defines at top level and is a Kernel, is built.
    found = find_kernels(kernels)

    # Each kernel unfolds into all choices of types, constexprs and configs.
    plans = expand_all(found, targets)

    # Triton is first needed here, if anything is to be compiled by it; it also knows which options there are.
    from kpack.compile import pool

    if compiled := [plan for plan in plans if plan.producer is None]:
        with needing("kpack.build"):
            from kpack.compile import adapter

        adapter.check(compiled, targets)

    # Each variant for each target is a job of its own; all failures are reported together.
    todo = pool.jobs_of(plans)
    with progress_bar("compiling", len(todo), progress) as step:
        outcomes = pool.compile_all(
            todo,
            processes=jobs,
            timeout_s=timeout_s,
            skip=on_error == "skip",
            done=lambda job, succeeded: step(
                f"{job.plan.variants[job.variant].entry} {job.target.name}", succeeded
            ),
        )

    # What no device can launch is left out, as an autotuner would, where that costs no call.
    outcomes = _leave_out_unfit(todo, outcomes)
    images, failures = _by_kernel(todo, outcomes)
    failed = [(job, each) for job, each in zip(todo, outcomes, strict=True) if isinstance(each, Failure)]

    # What tables have measured chooses among what there is, and may leave the rest without use.
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in tables.by_key.values():
        entries[entry.kernel].append(entry)
    parts = []
    for plan in plans:
        missing = {(job.variant, job.target.name) for job, _ in failed if job.plan is plan}
        origin = origin_of(plan, targets, built=bool(images[plan.name]))
        made = _Part(
            plan=without(plan, missing),
            images=tuple(images[plan.name]),
            failures=tuple(failures[plan.name]),
            info=origin["info"],
            source_key=origin["source_key"],
        )
        parts.append(made.tuned(plan, missing, entries[plan.name], keep))
    if unused := _unused(tables.of(plan.name for plan in plans) if part else tables, parts):
        warnings.warn(unused, stacklevel=2)

    # Packing is left to write(): it takes the archive's name, and no time.
    return Pack(name=name, host=host, targets=targets, parts=tuple(parts))


def _unused(tables: Tables, parts: Iterable[_Part]) -> str:
    """What of the tables is not baked in, for a warning."""
    reasons = foreign_entries(tables, [part.plan.name for part in parts])
    for part in parts:
        reasons |= part.baked.unused if part.baked else {}
    return unused_entries(tables, reasons)


def expand_all(kernels: Iterable[Any], targets: tuple[Target, ...]) -> tuple[Plan, ...]:
    """Their plans. Raises one SpecError with the mistakes of all of them."""
    plans, mistakes = [], []
    for kernel in kernels:
        try:
            # What unfolds by itself is none of Triton's: its plan has a producer.
            own = isinstance(kernel, Kernel)
            plans.append(expand(kernel, _compiled(kernel, targets)) if own else kernel.expand(targets))
        except SpecError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SpecError("\n".join(mistakes))
    return tuple(plans)


def _compiled(kernel: Kernel, targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """The targets that Triton compiles for; the others are for ready-made code."""
    compiled = tuple(target for target in targets if target.compiled)
    if not compiled:
        names = " ".join(target.name for target in targets)
        raise TargetError(f"{kernel.name}: expected a target that Triton compiles for, got {names}")
    return compiled


def _by_kernel(
    jobs: Iterable[Job], outcomes: Iterable[Image | Failure]
) -> tuple[Mapping[str, list[tuple[int, Image]]], Mapping[str, list[Failure]]]:
    """The images, with the indices of their variants, and the failures of each kernel, in the order of the jobs."""
    images: dict[str, list[tuple[int, Image]]] = defaultdict(list)
    failures: dict[str, list[Failure]] = defaultdict(list)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, Failure):
            failures[job.plan.name].append(outcome)
        else:
            images[job.plan.name].append((job.variant, outcome))
    return images, failures


def _leave_out_unfit(jobs: Sequence[Job], outcomes: Sequence[Image | Failure]) -> tuple[Image | Failure, ...]:
    """Images that fit no device of their target become failures, but for those that would be missed."""
    reasons = [why_unfit(each) if isinstance(each, Image) else "" for each in outcomes]
    fitting = {
        (job.plan.name, job.target, job.variant)
        for job, outcome, reason in zip(jobs, outcomes, reasons, strict=True)
        if isinstance(outcome, Image) and not reason
    }
    left = list(outcomes)
    for at, (job, reason) in enumerate(zip(jobs, reasons, strict=True)):
        if not reason:
            continue
        variants, failure = job.plan.variants, job.failure(reason)
        is_spare = any(
            (name, target) == (job.plan.name, job.target)
            and takes_all_of(variants[number], variants[job.variant])
            for name, target, number in fitting
        )
        if is_spare:
            left[at] = failure
        else:
            warnings.warn(f"{failure}; it is packed, and no launch of it will succeed", stacklevel=3)
    return tuple(left)


def origin_of(plan: Plan, targets: tuple[Target, ...], built: bool) -> dict[str, str]:
    """Where a kernel's code comes from: for people, and in one text for hashes."""
    if not built:  # there may be nothing to be said of it: of source that Triton does not take, no key either
        return {"source_key": "", "info": _info({"source": plan.source})}
    if plan.producer is not None:
        origin = dict(plan.origin or {})
        return {"source_key": str(origin.pop("source_key", "")), "info": _info(origin)}
    from kpack.compile import adapter

    return {"source_key": adapter.source_key(plan), "info": _info(adapter.provenance(plan, targets))}


def _info(provenance: Mapping[str, Any]) -> str:
    return json.dumps({"kpack": VERSION, **provenance}, sort_keys=True, indent=1)


@dataclass(frozen=True, slots=True)
class _Part:
    """A kernel of a pack: its images by variant, what is missing, and where they come from."""

    plan: Plan
    images: tuple[tuple[int, Image], ...]
    failures: tuple[Failure, ...]
    info: str
    source_key: str
    baked: Baked | None = None
    dropped: tuple[Image, ...] = ()

    def tuned(self, plan: Plan, missing: set[tuple[int, str]], entries: Sequence[Entry], keep: str) -> _Part:
        """With what tables say of it. `plan`: as it was before what is `missing`."""
        if not entries:
            return self
        baked = bake(self.plan, self.images, self.source_key, entries, self.images)
        dropped = unneeded(self.plan, self.images, baked.matches) if keep == "tuned" else set()
        if not dropped:
            return replace(self, baked=baked)
        stays = tuple(each for each in self.images if (each[0], each[1].target.name) not in dropped)
        return replace(
            self,
            plan=without(plan, missing | dropped),
            images=stays,
            dropped=tuple(image for number, image in self.images if (number, image.target.name) in dropped),
            # Keys and hash are of the variants that are left.
            baked=bake(self.plan, self.images, self.source_key, entries, stays),
        )


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
        missing = f", {len(self.failures)} missing" if self.failures else ""
        return f"<pack {self.name or '(named by its file)'}: {kernels}; {images} for {targets}{missing}>"

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What was built, a plan a kernel, by name."""
        return tuple(part.plan for part in self.parts)

    @property
    def images(self) -> tuple[Image, ...]:
        """All machine code, with its facts: kernel after kernel, variant after variant."""
        return tuple(image for part in self.parts for _, image in part.images)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What was asked for and did not compile, in the same order: built with on_error="skip", or what fits
        no device of a target where an alternative does."""
        return tuple(failure for part in self.parts for failure in part.failures)

    @property
    def tuned_entries(self) -> int:
        """How many choices of tuning tables are baked in."""
        return sum(len(part.baked.choices) for part in self.parts if part.baked)

    @property
    def image_bytes(self) -> int:
        """Of machine code, equal images of a kernel once."""
        return sum(_unique_bytes(image for _, image in part.images) for part in self.parts)

    @property
    def untrimmed_bytes(self) -> int:
        """What `image_bytes` would be with keep="all"."""
        return sum(
            _unique_bytes((*(image for _, image in part.images), *part.dropped)) for part in self.parts
        )

    @property
    def dropped_images(self) -> int:
        """How many images keep="tuned" has left out."""
        return sum(len(part.dropped) for part in self.parts)

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
                holes=part.failures,
                info=part.info,
                host=self.host,
                source_key=part.source_key,
                tuned=part.baked is not None,
            )
            for part in self.parts
        ]
        tables = [
            encode_tuning(name, part.plan.name, part.baked.hash, part.baked.choices.items(), host=self.host)
            for part in self.parts
            if part.baked is not None
        ]
        write_archive(archive, [*members, *tables, encode_index(name, members, host=self.host)])
        return archive


def _unique_bytes(images: Iterable[Image]) -> int:
    return sum(map(len, {image.code for image in images}))


def pack_name_of(archive: Path, option: str = "name=") -> str:
    """The pack's name by its file's; `option` is how the caller's user would give another."""
    stem = archive.stem.removeprefix("lib")
    try:
        return check_pack_name(stem)
    except SpecError as error:
        raise SpecError(f"{error}, from the file name {archive.name!r}; give {option}") from None
