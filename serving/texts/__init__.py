"""Texts and scores as every door asks for them: in plain values, whatever they came in."""
