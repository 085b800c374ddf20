"""Fast KV-cache context switching for LLM serving. Import the parts: ``fastswitch.memory``, ``.kernels``, ``.sched``, ``.engine``."""

__version__ = "0.1.0"
