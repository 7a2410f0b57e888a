"""Who is said to have written a text, and by what."""
