"""Compiled loops: the steps of the cells, and products of tiles."""
