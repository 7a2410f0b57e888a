"""The loop in C++."""
