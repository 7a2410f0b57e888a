"""What callers give in JSON or in Python, field by field, before it counts as options."""
