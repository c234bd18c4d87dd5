"""StyleGAN2: the network, its checkpoints, and the adapter."""

from .adapter import StyleGAN2Generator, open_model
from .file import convert

__all__ = ["StyleGAN2Generator", "convert", "open_model"]
