"""Lies where kpack's headers and libraries were installed: kpack/paths.py finds them beside it."""
