"""Engine in a process of its own."""

from .remote import ProcessEngine

__all__ = ["ProcessEngine"]
