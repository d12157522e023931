"""Arch names: one spelling each, and help for all others."""

from __future__ import annotations

import pytest

import kpack
from kpack.objfile import abi
from kpack.target import KNOWN, parse_target, parse_targets


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
    ],
)
def test_a_name_says_what_code_is_made(name, vendor, kind, reach, arch, warp_size):
    target = parse_target(name)
    assert target.name == name
    assert (target.vendor, target.kind, target.reach) == (vendor, kind, reach)
    assert (target.arch, target.warp_size) == (arch, warp_size)
    assert target.processor == (name if vendor == abi.VENDOR_HIP else "")


def test_there_is_no_ptx_from_sm_90_on():
    # Triton compiles sm_90 and up as sm_90a, whose PTX runs on that arch alone.
    assert [name for name in KNOWN if name.startswith("ptx_")] == "ptx_75 ptx_80 ptx_86 ptx_87 ptx_89".split()


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
    ],
)
def test_an_unknown_name_is_refused_with_those_that_are_known(arch, words):
    with pytest.raises(kpack.TargetError) as raised:
        parse_targets(arch)
    for word in words:
        assert word in str(raised.value)
