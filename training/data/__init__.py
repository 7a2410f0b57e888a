"""From a text to streams of token ids."""
