"""Options that several commands share, or that are made from a table, written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any


def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """One option, as it would stand in the signature of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_options(
    function: Callable[..., None], replaced: str, options: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """Give a command the signature that has `options` in place of its parameter `replaced`.

    The command is called with all of them by name.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name == replaced:
            parameters += options
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def command(**given: Any) -> None:
        function(**given)

    made: Any = command
    made.__name__, made.__doc__, made.__module__ = function.__name__, function.__doc__, function.__module__
    made.__signature__ = signature.replace(parameters=parameters)
    made.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
