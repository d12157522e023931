"""What works on this machine, tried: kernels are compiled and packed, programs linked and run, drivers asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from kpack.doctor import compiles, drivers, install, linking
from kpack.doctor.check import BROKEN, MISSING, Check, Probe, Tools
from kpack.doctor.compiles import COMPILES
from kpack.errors import SpecError

__all__ = ["TOPICS", "Check", "builds_work", "examine"]

TOPICS: Mapping[str, Sequence[Probe]] = {
    "install": install.PROBES,
    "triton": compiles.PROBES,
    "drivers": drivers.PROBES,
    "linking": linking.PROBES,
}
"""What is looked at, by the names that `examine` takes."""
_NEEDED = ("install", "triton")  # to build kernels


def builds_work(checks: Iterable[Check]) -> bool:
    """Whether kernels can be compiled and packed, for one vendor at least, as far as `checks` tell."""
    known = tuple(checks)
    compiled = [check for check in known if check.subject in COMPILES]
    if compiled and all(check.status in (MISSING, BROKEN) for check in compiled):
        return False
    return not any(check.needed and check.status in (MISSING, BROKEN) for check in known)


def examine(topics: Iterable[str] = (), *, limit_s: float = 60.0) -> Iterator[Check]:
    """Look at the topics, all without any named (see TOPICS), and yield what is found, in their order, as it is known.

    `limit_s`: what one process may take, of which a topic has a few at once. Nothing raises but SpecError, for a topic
    that there is not; what goes wrong is a check that is broken.
    """
    wanted = tuple(dict.fromkeys(topics)) or tuple(TOPICS)
    if unknown := [topic for topic in wanted if topic not in TOPICS]:
        raise SpecError(f"topic: expected {', '.join(TOPICS)}, got {unknown[0]!r}")
    return _examine(wanted, limit_s)


def _examine(topics: Sequence[str], limit_s: float) -> Iterator[Check]:
    with tempfile.TemporaryDirectory(prefix="kpack-", ignore_cleanup_errors=True) as folder:
        tools = Tools(Path(folder), limit_s)
        pool = ThreadPoolExecutor(max_workers=max(4, os.cpu_count() or 1))
        try:
            probes = [(topic, probe) for topic in topics for probe in TOPICS[topic]]
            running: list[Future[list[Check]]] = [
                pool.submit(_guarded, topic, probe, tools) for topic, probe in probes
            ]
            for each in running:
                yield from each.result()
        finally:  # also when whoever asked has heard enough
            tools.stop()
            pool.shutdown(cancel_futures=True)


def _guarded(topic: str, probe: Probe, tools: Tools) -> list[Check]:
    """What it finds, and where it fails, that it does: then what builds need of its topic is not known to be there."""
    found: list[Check] = []
    try:
        for check in probe(tools):
            found.append(check)  # not at once: what comes before a failure stays
    except Exception as error:  # a doctor does not fall ill
        name, said = probe.__name__.strip("_").replace("_", " "), f"{type(error).__name__}: {error}"
        advice = "not expected: a bug of kpack's doctor, report it"
        found.append(Check(topic, name, BROKEN, said, advice, needed=topic in _NEEDED))
    return found
