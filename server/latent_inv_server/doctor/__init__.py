"""Is everything here that a server needs? One look at each thing, and what to do where one is wrong."""

from .examination import examine
from .finding import Finding, State
from .reaching import reach

__all__ = ["Finding", "State", "examine", "reach"]
