"""Runs over several devices: FSDP2's sharded parameters, and the processes that share a run."""
