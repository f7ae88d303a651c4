"""Changes that are no mistakes: what they change makes no difference, or none that is promised."""

EQUIVALENT: dict[str, str] = {}
