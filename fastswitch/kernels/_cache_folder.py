"""Where things that were made for this machine are kept between processes.

Ours. The user's cache directory, as the XDG base directory specification names it.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/fastswitch``, by default ``~/.cache/fastswitch``; it need not exist yet."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "fastswitch"
