"""`kpack config`: how to compile and link a program."""

from __future__ import annotations

import click

from kpack.cli.native import native_archs
from kpack.cli.show import print_json
from kpack.cli.teach import command

__all__ = ["config"]


@command(
    "config",
    short="Say how to compile and link a program.",
    examples="""
        g++ -c app.cc $(kpack config --cflags)
        g++ app.o libtk.a $(kpack config --libs) -o app              # the kernels that app names
        cmake -S . -B build -Dkpack_DIR=$(kpack config --cmakedir)   # find_package(kpack CONFIG)
        kpack config --json
    """,
)
@click.option("--cflags", is_flag=True, help="What the compiler gets: the header folder.")
@click.option("--libs", is_flag=True, help="What the linker gets: the runtime, and what it needs.")
@click.option("--includedir", is_flag=True, help="The folder that holds kpack/kpack.hpp.")
@click.option("--libdir", is_flag=True, help="The folder that holds libkpack_runtime.a.")
@click.option("--cmakedir", is_flag=True, help="What kpack_DIR gets, for find_package(kpack CONFIG).")
@click.option("--pkgconfigdir", is_flag=True, help="What PKG_CONFIG_PATH gets, for pkg-config kpack.")
@click.option("--native", is_flag=True, help="The archs of this machine's GPUs: what --arch gets here.")
@click.option("--json", "as_json", is_flag=True, help="All of these but --native, a list of words each.")
def config(
    cflags: bool,
    libs: bool,
    includedir: bool,
    libdir: bool,
    cmakedir: bool,
    pkgconfigdir: bool,
    native: bool,
    as_json: bool,
) -> None:
    """Say how to compile and link a program; flags may be combined."""
    from kpack import paths

    if as_json:
        includedir = libdir = cmakedir = pkgconfigdir = cflags = libs = True
    found: dict[str, list[str]] = {}
    if includedir:
        found["includedir"] = [str(paths.include_dir())]
    if libdir:
        found["libdir"] = [str(paths.library_path().parent)]
    if cmakedir:
        found["cmakedir"] = [str(paths.cmake_dir())]
    if pkgconfigdir:
        found["pkgconfigdir"] = [str(paths.pkgconfig_dir())]
    if native:
        found["native"] = native_archs()
    if cflags:
        found["cflags"] = paths.compile_flags()
    if libs:
        found["libs"] = paths.link_flags()
    if not found:
        raise click.UsageError(
            "say what to show: --cflags, --libs, --includedir, --libdir, --cmakedir, --pkgconfigdir, --native or --json"
        )
    if as_json:
        print_json(found)
    else:
        click.echo(" ".join(word for words in found.values() for word in words))
