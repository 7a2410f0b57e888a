"""Many texts of one model in one call."""
