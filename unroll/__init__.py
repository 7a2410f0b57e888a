"""Recurrent language models, compiled: what client, server, trainer and compiler share."""
