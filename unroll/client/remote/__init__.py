"""How a call reaches a server: channels, encryption, messages, repetitions, resumed streams."""
