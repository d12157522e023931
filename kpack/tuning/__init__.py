"""Tuning tables: what they are keyed by, reading and merging them, baking them into archives, filling them."""
