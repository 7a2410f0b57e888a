"""The model, its initial weights and its optimizer."""
