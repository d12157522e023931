"""Compilers and linkers: with each, a program with a pack in it is compiled, linked, and run on the dry driver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from kpack import paths
from kpack.doctor.check import BROKEN, MISSING, OK, WARN, Check, Probe, Tools

__all__ = ["PROBES"]


def _compilers(tools: Tools) -> Iterator[Check]:
    for language, variable, source, text in (
        ("C", "CC", "probe.c", _C_PROGRAM),
        ("C++", "CXX", "probe.cc", _CPP_PROGRAM),
    ):
        command = paths.compiler(variable)
        subject = f"{language} compiler"
        if shutil.which(command[0]) is None:
            advice = f"install one, or name it by {variable}; kpack build needs none"
            yield Check("linking", subject, MISSING, f"no {' '.join(command)}", advice)
            continue
        out, _ = tools.run([*command, "--version"])
        version = next(iter(out.splitlines()), command[0])
        why = _try_program(tools, command, source, text, [])
        advice = "the message is the compiler's, or the program's" if why else ""
        found = f"{version}: {why}" if why else f"{version}; a program of it launches, dry"
        yield Check("linking", subject, BROKEN if why else OK, found, advice)


_LINKERS = {
    "bfd": ("ld.bfd", "binutils"),
    "gold": ("ld.gold", "binutils"),
    "lld": ("ld.lld", "lld"),
    "mold": ("mold", "mold"),
}


def _linker(name: str) -> Probe:
    def linking(tools: Tools) -> Iterator[Check]:
        subject, (program, package) = f"linker {name}", _LINKERS[name]
        command = paths.compiler("CC")
        if (found := shutil.which(program)) is None:
            yield Check(
                "linking", subject, MISSING, f"no {program}", f"one linker will do; Debian: {package}"
            )
            return
        if shutil.which(command[0]) is None:
            advice = "install a C compiler, or name it by CC"
            yield Check("linking", subject, WARN, f"{found}, not tried without a C compiler", advice)
            return
        why = _try_program(tools, command, f"{name}.c", _C_PROGRAM, [f"-fuse-ld={name}"])
        advice = "one linker will do" if why else ""
        yield Check(
            "linking", subject, BROKEN if why else OK, why or f"{found}; what it links launches, dry", advice
        )

    return linking


def _try_program(tools: Tools, compiler: Sequence[str], source: str, text: str, flags: Sequence[str]) -> str:
    """Compile, link and run a program with a pack in it, on the dry driver. Why that fails, or ""."""
    archive, why = tools.pack()
    if why:
        return f"nothing to link: {why}"
    file, program = tools.folder / source, tools.folder / f"{source}.program"
    file.write_text(text)
    _, why = tools.run(
        [*compiler, *flags, *paths.compile_flags(), str(file), str(archive), *paths.link_flags()]
        + ["-o", str(program)]
    )
    if why:
        return why
    out, why = tools.run([str(program)], KPACK_DRIVER="dry:sm_80")
    return why or (
        "" if "probe" in out else f"the program expected to show a launch of probe, got {out!r:.60}"
    )


_C_PROGRAM = """
#include <kpack/kpack.h>
#include <stdio.h>
extern const kpk_kernel kpack_kernel_doctor_probe __attribute__((visibility("hidden")));
int main(void) {
  const kpk_stream stream = {NULL, KPK_VENDOR_CUDA, 0};
  kpk_status status;
  kpk_call call;
  kpk_call_begin(&call);
  kpk_pass_pointer(&call, (void *)0x10000, KPK_FP32);
  kpk_pass_i32(&call, 7);
  status = kpk_launch_call(&kpack_kernel_doctor_probe, stream, &call);
  puts(kpk_message());
  return status == KPK_DRY ? 0 : 1;
}
"""
_CPP_PROGRAM = """
#include <kpack/kpack.hpp>
#include <cstdio>
KPACK_KERNEL(doctor, probe);
int main() {
  const kpack::Status status = doctor::probe(nullptr, reinterpret_cast<float *>(0x10000), 7);
  std::puts(kpk_message());
  return status.code() == KPK_DRY ? 0 : 1;
}
"""


PROBES = (_compilers, *map(_linker, _LINKERS))
