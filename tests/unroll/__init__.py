"""Tests of the serving core: no server, no network."""
