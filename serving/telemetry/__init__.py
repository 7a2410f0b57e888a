"""What an engineer on call sees: metrics, logs and traces."""
