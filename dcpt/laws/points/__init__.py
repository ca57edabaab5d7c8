"""Points: the inputs of a law, from a runs table or from a prediction request."""
