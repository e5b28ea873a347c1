"""How the name of a file is shown in a message."""

import os


def shown(path: str | bytes | os.PathLike) -> str:
    """Return the name of a file as one printable line, whatever its bytes and the locale.

    Names are read as UTF-8. Bytes that are none, control characters and whatever else cannot be
    seen are escaped as in Python source, so that a name can neither break a line nor move the
    cursor of a terminal, and can always be encoded.
    """
    name = os.fspath(path)
    if isinstance(name, str):
        try:
            name = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half a surrogate pair, as names on Windows may have
            name = name.encode("utf-8", "backslashreplace")
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
