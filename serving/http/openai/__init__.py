"""What clients of OpenAI's completions ask for and get."""
