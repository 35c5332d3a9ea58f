"""What a setting demands of other keys: all that is not met is named at once, on one line."""

from __future__ import annotations

from collections.abc import Iterable

from fnl.errors import ConfigError


def refuse(unmet: Iterable[str], setting: str = "") -> None:
    """Refuse a setting if some of its demands are not met.

    Args:
        unmet: what is not met, each with what would be right.
        setting: how the message begins, "privacy.noise = 'distributed':"; empty where what is not
            met names it.

    Raises:
        ConfigError: naming all of them.
    """
    if found := "; ".join(unmet):
        raise ConfigError(f"{setting} {found}".lstrip())
