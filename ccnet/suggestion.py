"""What to say of a key that is not known; the config's check includes this file, so that both say the same."""

import difflib
from collections.abc import Iterable


def suggestion(key: str, known: Iterable[str]) -> str:
    """What to write in place of an unknown `key`: the one it resembles among the `known`, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    return f"unknown key; did you mean '{near[0]}'?" if near else f"unknown key; known here: {', '.join(names)}"
