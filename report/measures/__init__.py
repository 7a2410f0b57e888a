"""What the report measures of a trained model."""
