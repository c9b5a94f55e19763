"""Do a user's settings fit the fields of a method's class?  By name, and by type."""

from collections.abc import Collection
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from stackelberg.errors import StackelbergError, unknown


def fitted(method: str, kind: type, settings: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The settings as their fields' types; text is read as a number or a path where that is asked for.

    Args:
        method: its name, for what is said.
        kind: the dataclass.
        settings: values by field.
        known: the fields that may be set.

    Raises:
        StackelbergError: no such field, or a value of another type.
    """
    hints = get_type_hints(kind)
    found = {}
    for field, value in settings.items():
        if field not in known:
            raise unknown(f"setting of {method}", field, known)
        try:
            found[field] = TypeAdapter(hints[field]).validate_python(value)
        except ValidationError as error:
            words = error.errors()[0]["msg"].lower()
            raise StackelbergError(f"{method}: {field} got {value!r}: {words}") from None
    return found
