"""The solver: bounded least squares over many starts, with exact slopes."""
