"""The root of every error this project raises on purpose."""


class EarshotError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and what to do.

    Subclasses also derive from the built-in that fits (`ValueError`, `OSError`), so that callers
    who know nothing of Earshot can still catch them. Commands print the line and exit with 2.
    """
