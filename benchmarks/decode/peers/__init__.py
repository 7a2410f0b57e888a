"""Other ways to write the same text from the same weights, measured beside the loop."""
