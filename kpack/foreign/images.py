"""`Images`: a kernel of ready-made code: cubins, code objects, PTX, and clang offload bundles of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kpack.errors import FormatError, SpecError
from kpack.foreign.bundle import is_bundle, read_bundles
from kpack.foreign.declared import attempt, declare, one_variant, packed_arguments, place_of_caller
from kpack.foreign.scratch import Scratch, scratch_mistakes, scratch_sizes, scratch_slots
from kpack.image import Compiled, Contents, Facts, Image, identify, read_facts, read_image
from kpack.naming import check_kernel_name
from kpack.objfile import abi
from kpack.spec import Arg, Kernel, Plan, Value, Variant
from kpack.target import Target, images_for, nearest, parse_target

__all__ = ["Images"]

File = str | os.PathLike[str] | bytes
Files = File | Sequence[File] | Mapping[str, File]

_MOST_THREADS = 1024  # of a block: also what AMD's compilers write when nobody says
_PORTABLE_CTAS = 8  # of a cluster


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Images:
    """A kernel of ready-made code, and what its call is.

    name        a C identifier
    files       where the code is: a file, a list of files, or files by target ("sm_90", "gfx90a:xnack-",
                "gfx11-generic"), each a cubin, a code object (hsaco), PTX or a clang offload bundle of them, plain or
                compressed; or its bytes. What each is for, it says itself. Relative paths start from the working
                directory
    signature   a Kernel's, of every argument in order; without "?": the code was compiled one way. What is ":1" or
                ":none" is checked by a launch and not passed. Its types are compared with the sizes in the code
    grid        one to three expressions, in blocks; as of a Kernel. guard, args: as of a Kernel
    constexprs  what the code was compiled with, for guards, grids and listings: a value each
    entry       the name of the device function; without one, the file's only kernel
    num_warps   of a block, along x; without it, what the code asks for, otherwise what it allows at most
    shared      bytes of dynamic shared memory
    cluster     CTAs along x, y and z; without it, what the code asks for
    scratch     bytes for each block of Triton's trailing pointers: {"global": 0, "profile": 0}; a number, or a pair
                of it and its alignment (128 bytes if not given)
    cooperative, pdl
                launch as a cooperative grid; with programmatic dependent launch (CUDA)

    A build takes the images for its targets: of each what is for just that, otherwise all that runs on it; for a
    target without any there is none. Raises SpecError, with a line for each mistake; that the code and the signature
    do not agree is said when it is built, before anything is compiled.
    """

    name: str = field(kw_only=False)
    files: Files = field(kw_only=False, repr=False)
    signature: Mapping[str, str] = field(default_factory=dict)
    grid: Any = None
    guard: Any = None
    constexprs: Mapping[str, Value] = field(default_factory=dict)
    entry: str | None = None
    num_warps: int | None = None
    shared: int = 0
    cluster: tuple[int, int, int] | None = None
    scratch: Mapping[str, Scratch] = field(default_factory=dict)
    cooperative: bool = False
    pdl: bool = False
    args: Mapping[str, Arg | Mapping[str, Any]] = field(default_factory=dict)
    kernel: Kernel = field(init=False, repr=False)
    found: tuple[_Found, ...] = field(init=False, repr=False)
    source: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_kernel_name(self.name)
        mistakes = _check_numbers(self)
        kernel = attempt(partial(_declare, self), mistakes)
        found = attempt(partial(_find, self), mistakes)
        if mistakes or kernel is None or found is None:
            raise SpecError("\n".join(mistakes))
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "found", found)
        object.__setattr__(self, "source", place_of_caller())

    def expand(self, targets: Sequence[Target]) -> Plan:
        """The plan of a build for `targets`. Raises SpecError where an image does not fit the signature."""
        by_name = {found.target.name: found for found in self.found}
        known = [found.target for found in self.found]
        wanted = [image.name for target in targets for image in images_for(target, known)]
        chosen = [by_name[name] for name in dict.fromkeys(wanted)]
        if not chosen:
            raise SpecError(
                f"{self.name}: expected an image for {' or '.join(target.name for target in targets)}, "
                f"got images for {', '.join(by_name)}"
            )
        images: dict[str, Image] = {}
        plan = one_variant(
            self.kernel,
            [found.target for found in chosen],
            name="w" + "_".join(dict.fromkeys(str(found.num_warps) for found in chosen)),
            entry=chosen[0].entry,
            options=(),
            source=self.source,
            producer=partial(_image_of, images),
            origin=_origin(chosen),
        )
        mistakes = []
        for found in chosen:
            try:
                images[found.target.name] = self._image(plan, found)
            except FormatError as error:
                mistakes.append(f"{self.name}: {found.file}: {error}{_scratch_hint(self, plan, found)}")
        if mistakes:
            raise SpecError("\n".join(mistakes))
        return plan

    def _image(self, plan: Plan, found: _Found) -> Image:
        (variant,) = plan.variants
        cuda = found.target.vendor == abi.VENDOR_CUDA
        global_bytes, global_align = scratch_sizes(self.scratch, "global")
        profile_bytes, profile_align = scratch_sizes(self.scratch, "profile")
        ctas = found.cluster[0] * found.cluster[1] * found.cluster[2]
        flags = {
            abi.IMAGE_COOPERATIVE: self.cooperative,
            abi.IMAGE_PDL: self.pdl and cuda,
            abi.IMAGE_NONPORTABLE_CLUSTER: ctas > _PORTABLE_CTAS,
            abi.IMAGE_SCRATCH_PER_CTA: cuda,
        }
        compiled = Compiled(
            target=found.target,
            entry=found.entry,
            code=found.code,
            arguments=packed_arguments(plan, variant),
            hidden=scratch_slots(self.scratch),
            num_warps=found.num_warps,
            warp_size=found.facts.warp_size,
            shared_bytes=self.shared,
            cluster=found.cluster,
            flags=sum(flag for flag, is_set in flags.items() if is_set),
            global_scratch_bytes=global_bytes,
            global_scratch_align=global_align,
            profile_scratch_bytes=profile_bytes,
            profile_scratch_align=profile_align,
        )
        return read_image(compiled)


def _image_of(images: Mapping[str, Image], plan: Plan, variant: Variant, target: Target) -> Image:
    return images[target.name]


def _origin(chosen: Iterable[_Found]) -> dict[str, Any]:
    """What each image is, by its file's name and content; no path, so that the same input gives the same bytes."""
    images = {
        found.target.name: {
            "file": found.file,
            "entry": found.entry,
            "sha256": hashlib.sha256(found.code).hexdigest(),
        }
        for found in chosen
    }
    return {"images": images, "source_key": f"images-{sorted((n, i['sha256']) for n, i in images.items())}"}


def _scratch_hint(images: Images, plan: Plan, found: _Found) -> str:
    more = len(found.facts.params) - len(packed_arguments(plan, plan.variants[0])) - len(images.scratch)
    trailing = found.facts.params[-more:] if more > 0 else ()
    if images.scratch or more not in (1, 2) or any(size != 8 for _, size in trailing):
        return ""
    names = dict.fromkeys(("global", "profile")[:more], 0)
    return f"; if its last {more} are pointers to scratch memory, as in Triton's code, give scratch={names}"


# ---- what is declared


def _declare(images: Images) -> Kernel:
    kernel = declare(
        images.name,
        images.signature,
        constexprs=images.constexprs,
        guard=images.guard,
        grid=images.grid,
        args=images.args,
    )
    boxed = [argument for argument, text in images.signature.items() if "tensordesc" in text]
    if boxed:
        raise SpecError(
            f"{images.name}: argument {boxed[0]!r}: expected no tensor descriptor, got "
            f"{images.signature[boxed[0]]!r}; how it was encoded, ready-made code does not say"
        )
    return kernel


def _check_numbers(images: Images) -> list[str]:
    name, mistakes = images.name, []

    def check(field: str, value: object, expected: str, fits: bool) -> None:
        if not fits:
            mistakes.append(f"{name}: {field}: expected {expected}, got {value!r}")

    def is_count(value: object, least: int) -> bool:
        return type(value) is int and value >= least

    warps, cluster = images.num_warps, images.cluster
    check("num_warps", warps, "1 or more", warps is None or is_count(warps, 1))
    check("shared", images.shared, "a number of bytes", is_count(images.shared, 0))
    is_cluster = (
        isinstance(cluster, tuple) and len(cluster) == 3 and all(is_count(each, 1) for each in cluster)
    )
    check("cluster", cluster, "CTAs along x, y and z", cluster is None or is_cluster)
    check("entry", images.entry, "a function's name", images.entry is None or isinstance(images.entry, str))
    return [*mistakes, *(f"{name}: {line}" for line in scratch_mistakes(images.scratch))]


# ---- what is found


@dataclass(frozen=True, slots=True)
class _Found:
    """One image: where it was, what it is, and how it is launched."""

    file: str
    target: Target
    entry: str
    code: bytes
    facts: Facts
    num_warps: int
    cluster: tuple[int, int, int]


def _find(images: Images) -> tuple[_Found, ...]:
    mistakes: list[str] = []
    found: dict[str, _Found] = {}
    for wanted, file, data in _files(images):
        try:
            for contents in _contents(data, wanted):
                one = _read(images, file, contents, wanted)
                if other := found.get(one.target.name):
                    raise SpecError(f"expected one image for {one.target.name}, got another in {other.file}")
                found[one.target.name] = one
        except (FormatError, SpecError) as error:
            mistakes += [f"{images.name}: {file}: {line}" for line in str(error).splitlines()]
    if not found and not mistakes:
        mistakes.append(f"{images.name}: files: expected one image or more, got none")
    if mistakes:
        raise SpecError("\n".join(mistakes))
    return tuple(found.values())


def _files(images: Images) -> Iterator[tuple[Target | None, str, bytes]]:
    """The target that a file is given for, its name, and its content."""
    files: Any = images.files
    if isinstance(files, (str, bytes, os.PathLike)):
        listed: list[tuple[str | None, Any]] = [(None, files)]
    elif isinstance(files, Mapping):
        listed = list(files.items())
    elif isinstance(files, (list, tuple)):
        listed = [(None, file) for file in files]
    else:
        raise SpecError(f"{images.name}: files: expected a file, a list, or files by target, got {files!r}")
    for name, file in listed:
        target = parse_target(name) if name is not None else None
        if isinstance(file, bytes):
            yield target, f"{len(file)} bytes", file
        elif isinstance(file, (str, os.PathLike)):
            yield target, Path(file).name, _load(images.name, Path(file))
        else:
            raise SpecError(f"{images.name}: files: expected a path or bytes, got {file!r}")


def _load(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(
            f"{name}: files: expected a file to read, got {str(path)!r}: {error.strerror}"
        ) from error


def _contents(data: bytes, wanted: Target | None) -> list[Contents]:
    """The images of a file; of a bundle, those that `wanted` asks for."""
    if not is_bundle(data):
        return [identify(data)]
    found = [identify(entry.code) for entry in read_bundles(data) if not entry.is_host and entry.code]
    if wanted is None:
        return found
    fitting = images_for(wanted, [contents.target for contents in found])
    if not fitting:
        names = ", ".join(contents.target.name for contents in found)
        raise SpecError(f"expected an image for {wanted.name} in the bundle, got {names or 'none'}")
    return [contents for contents in found if contents.target in fitting]


def _read(images: Images, file: str, contents: Contents, wanted: Target | None) -> _Found:
    entry = _entry(images.entry, contents)
    target = _target(contents.target, wanted)
    facts = read_facts(contents.code, target.kind, entry)
    if any(facts.block[1:]) and facts.block[1:] != (1, 1):
        raise SpecError(f"expected code for blocks along x, got {'x'.join(map(str, facts.block))} threads")
    cluster = images.cluster or (facts.cluster if any(facts.cluster) else (1, 1, 1))
    warps = _num_warps(images.num_warps, facts, target)
    return _Found(file, target, entry, contents.code, facts, warps, cluster)


def _entry(wanted: str | None, contents: Contents) -> str:
    names = contents.entries
    if wanted is not None and wanted not in names:
        raise SpecError(
            f"entry: expected one of {' '.join(names) or '(no kernels)'}, got {wanted!r}{nearest(wanted, names)}"
        )
    if wanted is None and len(names) != 1:
        raise SpecError(f"expected one kernel, got {' '.join(names) or 'none'}; give entry=")
    return wanted if wanted is not None else names[0]


def _target(said: Target, wanted: Target | None) -> Target:
    """What the image is for, by its own word. Triton's "sm_90" is the name of "sm_90a" code, too."""
    if wanted is None:
        return said
    if said not in images_for(wanted, [said]):
        raise SpecError(f"expected code for {wanted.name}, got code for {said.name}")
    return (
        wanted
        if wanted.kind == said.kind and wanted.reach == said.reach and wanted.arch == said.arch
        else said
    )


def _num_warps(wanted: int | None, facts: Facts, target: Target) -> int:
    asked, size = facts.block[0], facts.warp_size
    most = facts.max_threads or _MOST_THREADS
    if asked and asked % size:
        raise SpecError(f"expected code for blocks of whole warps of {size} threads, got {asked} threads")
    if asked and wanted is not None and wanted * size != asked:
        raise SpecError(f"num_warps: expected {asked // size}, as the code asks for, got {wanted}")
    if asked:
        return asked // size
    if wanted is not None and wanted * size > most:
        raise SpecError(f"num_warps: expected {most // size} of {size} threads or fewer, got {wanted}")
    if wanted is not None:
        return wanted
    allowed = facts.max_threads
    unsaid = not allowed or (target.vendor == abi.VENDOR_HIP and allowed == _MOST_THREADS)
    if unsaid or allowed % size:
        raise SpecError("expected num_warps=, since the code does not say it, got none")
    return allowed // size
