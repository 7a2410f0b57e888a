"""Tests of serving/local."""
