"""What sessions cost: at rest and in each store."""
