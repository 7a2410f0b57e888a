"""How a model's sizes are written in one line."""


def architecture(cell: str, hidden_size: int, layers: int, members: int) -> str:
    """Return `gru 512x1`, or `2 x gru 432x1` where two such networks stand side by side."""
    return f"{members} x " * (members > 1) + f"{cell} {hidden_size}x{layers}"
