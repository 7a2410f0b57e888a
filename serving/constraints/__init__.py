"""Texts that must match: from a regular expression to a table of what may come next."""
