"""One request on its way: what it asks for, where it stands, how it ends."""
