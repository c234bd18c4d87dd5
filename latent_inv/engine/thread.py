"""Engine in a thread."""

from .remote import ThreadEngine

__all__ = ["ThreadEngine"]
