"""What was written before must go on being valid."""
