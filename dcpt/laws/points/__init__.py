"""Points: what a law sees of a runs table, or of a question about it."""
