"""Triton, and nothing of it outside: variants in, images out, in processes that may die."""
