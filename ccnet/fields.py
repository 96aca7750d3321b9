"""Validated dataclasses: how their fields are described, and how their errors are explained."""

import json
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

LONGEST = 100  # characters of an invalid value that an error message shows
frozen = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))


def about(description: str, **limits: Any) -> Any:
    """A pydantic field with a description and limits."""
    return Field(description=description, **limits)


def explain(error: Any) -> str:
    """A pydantic error as one line: address, invalid value, what is allowed."""
    address, value = ".".join(str(part) for part in error["loc"]), json.dumps(error["input"])
    value = value if len(value) <= LONGEST else f"{value[:LONGEST]} …"
    return f"{address}: {value}: {error['msg'][0].lower()}{error['msg'][1:]}"
