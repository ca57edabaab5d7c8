"""The study: what a person asks for, in one YAML file."""
