"""What is raised where audio cannot be used."""

from features.errors import EarshotError


class AudioError(EarshotError, ValueError):
    """Audio that cannot be used: missing, unreadable, empty, or not made of numbers."""
