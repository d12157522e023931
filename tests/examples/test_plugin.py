"""examples/plugin: a host and a plugin, whose packs and kernels have the same names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tools import need, run

if TYPE_CHECKING:
    from conftest import Fake, Project

HOST = "the host's effect: f(0) = 0, f(999) = 1998\n"
PLUGIN = "the plugin's effect: f(0) = 100, f(999) = 1099\n"


@pytest.fixture(scope="module")
def built(project) -> Project:
    of = project("plugin")
    of.make("all")
    return of


def test_each_runs_its_own_and_an_unloaded_plugin_goes(built: Project, fake: Fake) -> None:
    printed, launched = fake.compute(built, "./host", "./plugin.so")
    once = PLUGIN + HOST + "unloaded and closed: gone\n"
    assert printed == HOST + once + once + PLUGIN + "closed, but not unloaded: still mapped\n" + HOST
    mine, other = "effect_BLOCK256_w4", "effect_BLOCK128_w4"
    assert launched == [mine, other, mine, other, mine, other, mine]


def test_the_plugin_exports_its_three_functions_and_nothing_else(built: Project) -> None:
    need("readelf")
    symbols = run("readelf", "-W", "--dyn-syms", built.folder / "plugin.so")
    # Hidden: ld.bfd lists __start_kpack_packs, which no other object can see.
    exported = re.findall(r"(?:GLOBAL|WEAK) +DEFAULT +\d+ (\w+)", symbols)
    assert sorted(exported) == ["plugin_effect", "plugin_message", "plugin_unload"]


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_host_says_so(built: Project) -> None:
    done = built.attempt("./host", "./plugin.so")
    assert (done.returncode, done.stdout) == (77, "host: no GPU\n")
