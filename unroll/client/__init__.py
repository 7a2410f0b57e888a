"""Call a server: `client.Client`, `aio.AsyncClient` and their sessions.

Rooms: remote/ (how a call reaches a server), faces/ (what can be asked, of a server or of a model
in this process), commands/ and load/.
"""
