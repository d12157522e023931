"""`native`: the archs of this machine."""

from __future__ import annotations

from kpack.errors import KpackError

__all__ = ["native_archs"]


def native_archs() -> list[str]:
    """What to build for the GPUs of this machine, each once. The drivers are asked, as a program would."""
    from kpack import runtime

    # Code that names no features (":xnack-") runs with any.
    archs = dict.fromkeys(arch.partition(":")[0] for arch in runtime.device_archs())
    if not archs:
        raise KpackError(
            "native: expected a GPU in this machine, got none that libcuda.so.1 or libamdhip64.so knows of; "
            "say what to build for by name: sm_90, gfx942, ..."
        )
    return list(archs)
