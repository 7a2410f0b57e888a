"""Texts that are gone on with: sessions, capsules and stores."""
