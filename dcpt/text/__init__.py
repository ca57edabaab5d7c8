"""Tokenize text, read tokens in an exact mixture, and fetch the demo's texts."""
