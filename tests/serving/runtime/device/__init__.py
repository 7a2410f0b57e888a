"""Rows whose states stay on a device."""
