"""What the flat parameters of all three papers' notebooks have in common.

Their settings are dataclasses whose defaults tell the type of each field.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from hcs_utils.errors import InputError
from hcs_utils.prepare import one_of

_NOUNS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}


def check(
    settings,
    words: Mapping[str, tuple[str, ...]],
    above_zero: Iterable[str],
    not_below_zero: Iterable[str],
) -> None:
    """Raise `InputError` at the first field of another type, an unknown word, or out of range.

    A whole number will do for a number; True is neither.
    """
    for field in dataclasses.fields(settings):
        value, kind = getattr(settings, field.name), type(field.default)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise InputError(f"{field.name} is {value!r}; it must be {_NOUNS[kind]}.")
    for name, known in words.items():
        one_of(name, getattr(settings, name), known)
    for name in above_zero:
        if not getattr(settings, name) > 0:
            raise InputError(f"{name} is {getattr(settings, name)}; it must be above 0.")
    for name in not_below_zero:
        if getattr(settings, name) < 0:
            raise InputError(f"{name} is {getattr(settings, name)}; it must not be below 0.")


def parameters(
    kind: type, prefix: str, shared: tuple[str, ...], elsewhere: tuple[str, ...]
) -> dict[str, str]:
    """For each parameter of a notebook or preset the field of `kind` that it is.

    All but the `shared` have the prefix. Those `elsewhere` are known by both names: filled, the
    prefixed one goes first, as a preset may send two papers to different screens.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    own = {name if name in shared else prefix + name: name for name in names}
    return own | {prefix + name: name for name in elsewhere}


def from_parameters(
    kind: type, given: Mapping, prefix: str, shared: tuple[str, ...], elsewhere: tuple[str, ...]
):
    """Settings of `kind` from a preset or a notebook's ``globals()``; others' names are left."""
    empty = {prefix + name for name in elsewhere if not given.get(prefix + name)}
    known = parameters(kind, prefix, shared, elsewhere)
    wanted = {name: of for name, of in known.items() if name in given and name not in empty}
    return kind(**{of: given[name] for name, of in wanted.items()})
