"""The commands that ask a server, or a bundle in this process."""
