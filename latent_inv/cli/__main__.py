"""`python -m latent_inv.cli`."""

from . import main

main()
