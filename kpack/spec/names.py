"""Names of variants: what sets each apart from the others of its kernel, for people and for the device code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from kpack.objfile import abi
from kpack.spec.configs import DEFAULT_NUM_WARPS, Config
from kpack.spec.kernel import Checked
from kpack.spec.plan import Constexpr
from kpack.spec.values import Value

__all__ = ["Names"]


class Names:
    """Gives variants names that say what sets them apart, each once."""

    def __init__(
        self, kernel: str, checked: Checked, configs: Iterable[Config], constexprs: Sequence[Constexpr]
    ) -> None:
        self.kernel = kernel
        self.shown = [c.name for c in constexprs if c.role != abi.CONSTEXPR_FIXED]
        everywhere = dict(checked.options)
        merged = [{**everywhere, **dict(config.options)} for config in configs]
        options = sorted({name for option in merged for name in option} - {"num_warps"})
        self.differing = [name for name in options if len({option.get(name) for option in merged}) > 1]
        self.taken: set[str] = set()

    def take(
        self,
        chosen: Mapping[str, str],
        values: Mapping[str, Value],
        options: Mapping[str, Value],
        suffix: Iterable[str],
    ) -> tuple[str, str]:
        parts = [
            *chosen.values(),
            *(f"{name}{values[name]}" for name in self.shown),
            f"w{options.get('num_warps', DEFAULT_NUM_WARPS)}",
            *(f"{'s' if name == 'num_stages' else name}{options.get(name)}" for name in self.differing),
            *suffix,
        ]
        name = ".".join(re.sub(r"[^A-Za-z0-9_.+-]", "_", part) for part in parts)
        entry = f"{self.kernel}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        # -1 and .1 look the same in an entry, and odd texts in a name: then the later gets a number.
        number = 1
        while entry in self.taken:
            number += 1
            entry = f"{entry.removesuffix(f'__{number - 1}')}__{number}"
        self.taken.add(entry)
        return (name if number == 1 else f"{name}.{number}"), entry
