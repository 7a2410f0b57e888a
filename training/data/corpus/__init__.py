"""Corpora: files and downloads become the token ids of a text."""
