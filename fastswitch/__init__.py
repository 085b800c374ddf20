"""Fast KV-cache context switching for LLM serving; import its parts: ``memory``, ``kernels``, ``sched``, ``engine``."""

__version__ = "0.1.0"
