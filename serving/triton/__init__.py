"""Triton's door: its protocol for texts, over gRPC; what HTTP's share of it has in common."""
