"""The command `kpack`, also as `python -m kpack`."""

from __future__ import annotations

import sys

from kpack.needs import what_to_install

__all__ = ["main"]


def main() -> None:
    try:
        from kpack import cli
    except ModuleNotFoundError as error:
        advice = what_to_install(error)
        if not advice:
            raise
        print(f"kpack: command line: {advice}", file=sys.stderr)
        sys.exit(1)
    cli.main()


if __name__ == "__main__":
    main()
