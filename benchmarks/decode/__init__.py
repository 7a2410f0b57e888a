"""The decode loop beside its limits and its peers."""
