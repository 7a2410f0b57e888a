"""Tests of serving/triton."""
