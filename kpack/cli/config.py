"""`kpack config`: how to compile and link a program."""

from __future__ import annotations

import click

from kpack.cli.native import native_archs

__all__ = ["config"]


@click.command()
@click.option("--cflags", is_flag=True, help="What the compiler gets: the header folder.")
@click.option("--libs", is_flag=True, help="What the linker gets: the runtime, and what it needs.")
@click.option("--includedir", is_flag=True)
@click.option("--libdir", is_flag=True)
@click.option("--cmakedir", is_flag=True, help="What kpack_DIR gets, for find_package(kpack CONFIG).")
@click.option("--pkgconfigdir", is_flag=True, help="What PKG_CONFIG_PATH gets, for pkg-config kpack.")
@click.option("--native", is_flag=True, help="The archs of this machine's GPUs: what --arch gets here.")
def config(
    cflags: bool, libs: bool, includedir: bool, libdir: bool, cmakedir: bool, pkgconfigdir: bool, native: bool
) -> None:
    """Say how to compile and link a program; flags may be combined."""
    from kpack import paths

    words: list[str] = []
    if includedir:
        words.append(str(paths.include_dir()))
    if libdir:
        words.append(str(paths.library_path().parent))
    if cmakedir:
        words.append(str(paths.cmake_dir()))
    if pkgconfigdir:
        words.append(str(paths.pkgconfig_dir()))
    if native:
        words += native_archs()
    if cflags:
        words.append(f"-I{paths.include_dir()}")
    if libs:
        words += [str(paths.library_path()), "-ldl", "-lpthread"]
    if not words:
        raise click.UsageError(
            "say what to show: --cflags, --libs, --includedir, --libdir, --cmakedir, --pkgconfigdir or --native"
        )
    click.echo(" ".join(words))
