"""The grid of a study: planning its runs, estimating their cost, and training them."""
