"""The study: what a user asks for, in a YAML file."""
