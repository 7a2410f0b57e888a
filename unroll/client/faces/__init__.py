"""What can be asked of a model, wherever it runs, for asyncio and for threads."""
