"""Texts that are continued later: sessions, capsules and stores."""
