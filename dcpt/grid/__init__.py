"""The grid of a study: which runs it asks for, what they cost, training them."""
