"""Bytes to text: encodings, and what is mended on the way."""
