"""The solver: bounded robust least squares from many starts, with automatic differentiation."""
