"""``python -m fastswitch``: the command line."""

from fastswitch.engine.entry import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
