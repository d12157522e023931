"""Arch names: one spelling each, and help for all others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import triton
import triton.language as tl

import kpack
from kpack.image import identify
from kpack.objfile import abi
from kpack.target import GENERIC, KNOWN, PROCESSORS, images_for, parse_target, parse_targets

DEVICE_CC = Path(__file__).parents[2] / "csrc" / "src" / "device.cc"


@pytest.mark.parametrize(
    ("name", "vendor", "kind", "reach", "arch", "warp_size"),
    [
        ("sm_75", abi.VENDOR_CUDA, abi.IMAGE_CUBIN, abi.REACH_MAJOR, 75, 32),
        ("sm_89", abi.VENDOR_CUDA, abi.IMAGE_CUBIN, abi.REACH_MAJOR, 89, 32),
        ("sm_90", abi.VENDOR_CUDA, abi.IMAGE_CUBIN, abi.REACH_EXACT, 90, 32),
        ("sm_121", abi.VENDOR_CUDA, abi.IMAGE_CUBIN, abi.REACH_EXACT, 121, 32),
        ("ptx_80", abi.VENDOR_CUDA, abi.IMAGE_PTX, abi.REACH_FORWARD, 80, 32),
        ("gfx90a", abi.VENDOR_HIP, abi.IMAGE_HSACO, abi.REACH_EXACT, 0, 64),
        ("gfx1100", abi.VENDOR_HIP, abi.IMAGE_HSACO, abi.REACH_EXACT, 0, 32),
        ("sm_90a", abi.VENDOR_CUDA, abi.IMAGE_CUBIN, abi.REACH_EXACT, 90, 32),
        ("sm_100f", abi.VENDOR_CUDA, abi.IMAGE_CUBIN, abi.REACH_FAMILY, 100, 32),
        ("ptx_120", abi.VENDOR_CUDA, abi.IMAGE_PTX, abi.REACH_FORWARD, 120, 32),
        ("ptx_100f", abi.VENDOR_CUDA, abi.IMAGE_PTX, abi.REACH_FAMILY, 100, 32),
        ("ptx_90a", abi.VENDOR_CUDA, abi.IMAGE_PTX, abi.REACH_EXACT, 90, 32),
        ("gfx906", abi.VENDOR_HIP, abi.IMAGE_HSACO, abi.REACH_EXACT, 0, 64),
        ("gfx1013", abi.VENDOR_HIP, abi.IMAGE_HSACO, abi.REACH_EXACT, 0, 32),
        ("gfx9-generic", abi.VENDOR_HIP, abi.IMAGE_HSACO, abi.REACH_FAMILY, 0, 64),
        ("gfx9-4-generic", abi.VENDOR_HIP, abi.IMAGE_HSACO, abi.REACH_FAMILY, 0, 64),
        ("gfx10-3-generic", abi.VENDOR_HIP, abi.IMAGE_HSACO, abi.REACH_FAMILY, 0, 32),
    ],
)
def test_a_name_says_what_code_is_made(name, vendor, kind, reach, arch, warp_size):
    target = parse_target(name)
    assert target.name == name
    assert (target.vendor, target.kind, target.reach) == (vendor, kind, reach)
    assert (target.arch, target.warp_size) == (arch, warp_size)
    assert target.processor == (name if vendor == abi.VENDOR_HIP else "")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("gfx90a:xnack-", "gfx90a:xnack-"),
        ("gfx90a:xnack+:sramecc-", "gfx90a:sramecc-:xnack+"),
        ("gfx9-4-generic:sramecc+", "gfx9-4-generic:sramecc+"),
    ],
)
def test_features_are_part_of_a_name_in_amds_order(name, canonical):
    target = parse_target(name)
    assert target.name == canonical
    assert target.processor == canonical.partition(":")[0]
    assert target.features == tuple(canonical.split(":")[1:])


def test_what_triton_compiles_is_told_from_what_is_ready_made():
    assert all(target.compiled for target in KNOWN.values())
    for name in ("gfx900", "gfx940", "gfx9-4-generic", "gfx90a:xnack-", "ptx_90a"):
        assert not parse_target(name).compiled


def test_the_suffix_is_what_code_for_a_target_says_of_itself():
    names = ("sm_89", "sm_90", "sm_90a", "sm_100f", "ptx_90", "ptx_100f", "gfx90a")
    assert [parse_target(name).suffix for name in names] == ["", "a", "a", "f", "", "f", ""]


def test_the_table_of_generic_processors_is_that_of_the_runtime():
    rows = re.findall(r'\{"(gfx[\w-]+-generic)",\s*" ([^"]+) "\}', DEVICE_CC.read_text())
    assert {generic: tuple(text.split()) for generic, text in rows} == GENERIC
    assert set(GENERIC) <= set(PROCESSORS.values())
    assert {processor for row in GENERIC.values() for processor in row} <= set(PROCESSORS.values())


@pytest.mark.parametrize(
    ("target", "images", "wanted"),
    [
        ("sm_90", ["sm_90", "sm_80", "ptx_80"], ["sm_90"]),
        ("sm_90", ["sm_90a", "ptx_90"], ["sm_90a"]),
        ("sm_90", ["sm_80", "ptx_80", "ptx_100"], ["ptx_80"]),
        ("sm_90a", ["sm_90", "sm_90a"], ["sm_90", "sm_90a"]),  # Triton's sm_90 is the same code
        ("sm_86", ["sm_80", "sm_89", "sm_75"], ["sm_80"]),
        ("sm_103", ["sm_100f", "sm_100a", "ptx_100f", "sm_103f"], ["sm_103f"]),
        ("sm_103", ["sm_100f", "sm_100a", "ptx_100f"], ["sm_100f", "ptx_100f"]),
        ("sm_120", ["sm_100f"], []),
        ("ptx_80", ["sm_80", "ptx_80", "ptx_75"], ["ptx_80"]),
        ("ptx_90", ["ptx_90a"], []),
        ("gfx90a", ["gfx90a:xnack-", "gfx90a", "gfx942"], ["gfx90a:xnack-", "gfx90a"]),
        ("gfx90a:xnack-", ["gfx90a:xnack+", "gfx90a:sramecc+"], ["gfx90a:sramecc+"]),
        ("gfx942", ["gfx9-4-generic", "gfx9-generic"], ["gfx9-4-generic"]),
        ("gfx942", ["gfx9-4-generic", "gfx942"], ["gfx942"]),
        ("gfx950", ["gfx942"], []),
        ("gfx9-4-generic", ["gfx942", "gfx9-4-generic"], ["gfx9-4-generic"]),
        ("gfx90a", ["sm_90"], []),
    ],
)
def test_a_build_takes_what_is_for_a_target_otherwise_what_runs_on_it(target, images, wanted):
    found = images_for(parse_target(target), map(parse_target, images))
    assert [image.name for image in found] == wanted


def test_names_keep_their_order_and_come_once():
    assert [t.name for t in parse_targets(["sm_90", "gfx90a", "sm_90"])] == ["sm_90", "gfx90a"]
    assert [t.name for t in parse_targets("sm_90")] == ["sm_90"]


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("gfx91a", ["got 'gfx91a'", "did you mean 'gfx90a'?", "sm_90 "]),
        ("sm90", ["did you mean 'sm_90'?"]),
        ("SM_90", ["got 'SM_90'"]),
        (["sm_90", "sm_91", "x"], ["got 'sm_91'", "got 'x'"]),
        ([], ["at least one"]),
        ([90], ["got 90"]),
        ("sm_80a", ["got 'sm_80a'", "did you mean 'sm_80'?"]),
        ("sm_90f", ["got 'sm_90f'"]),
        ("gfx9-5-generic", ["did you mean 'gfx9-4-generic'?"]),
        ("gfx90a:xnack", ["features are sramecc and xnack, each once, with + or -"]),
        ("gfx90a:xnack+:xnack-", ["each once"]),
        ("gfx90a:", ["got 'gfx90a:'"]),
        ("sm_90:xnack+", ["got 'sm_90:xnack+'"]),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_are_known(arch, words):
    with pytest.raises(kpack.TargetError) as raised:
        parse_targets(arch)
    for word in words:
        assert word in str(raised.value)


# Of the releases that were tried: those that compile it. What all three do, other tests compile, too.
ALL, NEW, OLD = {(3, 4), (3, 6), (3, 9)}, {(3, 9)}, {(3, 4), (3, 6)}
RELEASES = {
    "sm_70": ALL,
    "sm_72": ALL,
    "sm_87": ALL,
    "sm_101": OLD,
    "sm_107": NEW,
    "sm_110": NEW,
    "sm_121": {(3, 6), (3, 9)},
    "gfx906": NEW,
    "gfx908": ALL,
    "gfx1010": OLD,
    "gfx1036": OLD,
    "gfx1103": ALL,
    "gfx1153": ALL,
    "gfx1172": NEW,
    "gfx1251": NEW,
}


@triton.jit
def numbered(out, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    tl.store(out + cols, cols)


@pytest.mark.parametrize("name", RELEASES)
def test_triton_compiles_what_is_known_as_the_target_says(name, tmp_path, monkeypatch):
    release = tuple(map(int, triton.__version__.split(".")[:2]))
    if release not in RELEASES[name]:
        pytest.skip(f"not compiled by Triton {triton.__version__}, or not tried")
    monkeypatch.setenv("KPACK_CACHE_DIR", str(tmp_path))
    kernel = kpack.Kernel(numbered, signature={"out": "*i32"}, constexprs={"BLOCK": 64}, grid=1)
    (image,) = kpack.build(kernel, name).images
    assert image.warp_size == image.target.warp_size
    said = identify(image.code).target
    assert (said.arch, said.processor, said.suffix) == (
        image.target.arch,
        image.target.processor,
        image.target.suffix,
    )
