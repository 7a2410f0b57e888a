"""Tests of serving.constraints."""
