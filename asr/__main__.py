"""`python -m asr` is the `asr` command."""

from asr.cli import main

if __name__ == "__main__":
    main()
