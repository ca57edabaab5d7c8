"""Text to tokens, tokens to an exact mixture, and the demo's texts."""
