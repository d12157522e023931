"""Names of variants: what sets each apart from the others of its kernel, for people and for the device code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from kpack.objfile import abi
from kpack.spec.configs import DEFAULT_NUM_WARPS
from kpack.spec.plan import Constexpr, Variant
from kpack.spec.values import Value

__all__ = ["Names"]


class Names:
    """Gives variants names that say what sets them apart, each once."""

    def __init__(self, kernel: str, variants: Iterable[Variant], constexprs: Sequence[Constexpr]) -> None:
        self.kernel = kernel
        self.shown = [n for n, c in enumerate(constexprs) if c.role != abi.CONSTEXPR_FIXED]
        self.constexprs = constexprs
        merged = [dict(variant.options) for variant in variants]
        options = sorted({name for option in merged for name in option} - {"num_warps"})
        self.differing = [name for name in options if len({option.get(name) for option in merged}) > 1]
        self.taken_names: set[str] = set()
        self.taken_entries: set[str] = set()

    def take(self, types: Iterable[str], variant: Variant, suffix: Iterable[str]) -> tuple[str, str]:
        """The name of a variant of these types, and of its device function."""
        options: Mapping[str, Value] = dict(variant.options)
        parts = [
            *types,
            *(f"{self.constexprs[number].name}{variant.constexprs[number]}" for number in self.shown),
            f"w{options.get('num_warps', DEFAULT_NUM_WARPS)}",
            *(
                f"{'s' if name == 'num_stages' else name}{options[name]}"
                for name in self.differing
                if options.get(name) is not None
            ),
            *suffix,
        ]
        plain_name = name = ".".join(re.sub(r"[^A-Za-z0-9_.+-]", "_", part) for part in parts)
        plain_entry = entry = f"{self.kernel}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        # -1 and .1 look the same in an entry, and odd texts in a name: then the later gets a number.
        number = 1
        while name in self.taken_names or entry in self.taken_entries:
            number += 1
            name, entry = f"{plain_name}.{number}", f"{plain_entry}__{number}"
        self.taken_names.add(name)
        self.taken_entries.add(entry)
        return name, entry
