"""Generators of the user's own: what a file says of itself, what the text beside it says, and the adapter of both."""
