"""What a program says of itself: its inputs, its picture, and how many rows a call takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A tensor that goes into a program or comes out.

    Attributes:
        name: as the program calls it.
        shape: sides without the rows; None: any, or not known.
        kind: the program's name of its number format, for messages.
        floating: does it hold numbers with fractions?
    """

    name: str
    shape: tuple[int | None, ...]
    kind: str = "float32"
    floating: bool = True


@dataclass(frozen=True)
class Signature:
    """What a program takes and gives.

    Attributes:
        inputs: in the order of the call.
        picture: what comes out; None: not known before it is run.
        least, most: rows of a call; most is None where there may be any number.
        bounds: of the picture's numbers, where the last operation keeps them; None: not known.
    """

    inputs: tuple[Form, ...]
    picture: Form | None = None
    least: int = 1
    most: int | None = None
    bounds: tuple[float, float] | None = None


#: last operation of a program -> what it keeps the picture's numbers in
BOUNDS: dict[str, tuple[float, float]] = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
