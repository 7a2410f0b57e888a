"""Clients of every kind against two servers that are killed again and again (`--help`)."""
