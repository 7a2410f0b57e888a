"""Recurrent layers on the CPU, with back-propagation through time written out by hand."""
