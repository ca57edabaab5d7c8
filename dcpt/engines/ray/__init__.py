"""The Ray engine: the local engine's workers, each held by an actor somewhere in a Ray cluster."""
