"""Tests of the compiler: what it writes says what torch says."""
