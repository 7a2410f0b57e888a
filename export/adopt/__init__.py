"""Adoption: a model that another program trained in torch becomes a checkpoint."""
