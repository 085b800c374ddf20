"""Which model, from a word on the command line: ``tiny``, a folder, a hub id, or the shapes of a well-known one."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from fastswitch.engine.tiny_model import SHAPES, shaped_config, tiny_llama
from fastswitch.engine.usage import UsageError

__all__ = ["LoadedModel", "load_model"]

DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in eval mode on its device, with what the engine asks of it.

    Attributes:
        name: as given.
        model: a transformers causal language model.
        tokenizer: the model's own; None where it has none.
        vocab_size: token ids are in ``[0, vocab_size)``.
        dtype: of weights, KV and activations.
    """

    name: str
    model: Any
    tokenizer: Any
    vocab_size: int
    dtype: torch.dtype

    @property
    def max_context(self) -> int:
        """Positions that the model knows."""
        return int(self.model.config.get_text_config(decoder=True).max_position_embeddings)

    @property
    def num_layers(self) -> int:
        """Layers."""
        return int(self.model.config.get_text_config(decoder=True).num_hidden_layers)

    def encode(self, text: str) -> list[int]:
        """Text to token ids: with the model's tokenizer, or as UTF-8 bytes where it has none.

        Raises:
            UsageError: if there is no tokenizer and the vocabulary has less than 256 ids.
        """
        if self.tokenizer is not None:
            return list(self.tokenizer.encode(text, add_special_tokens=False))
        if self.vocab_size < 256:
            raise UsageError(f"model {self.name} has no tokenizer and {self.vocab_size} ids: UTF-8 bytes need 256")
        return list(text.encode())


def load_model(name: str, *, device: str, dtype: str | None, random_weights: bool, seed: int) -> LoadedModel:
    """Load or build a model.

    Args:
        name: ``tiny``, a key of ``SHAPES``, a folder, or a hub id.
        device: ``cpu`` or ``cuda``.
        dtype: one of ``DTYPES``; None means float64 for ``tiny`` on the CPU, else the model's own.
        random_weights: do not read weights, draw them; the shapes always do.
        seed: of drawn weights.

    Raises:
        UsageError: if the name, device or dtype is of no use, in one line.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda needs a CUDA GPU and a CUDA build of torch, found none: use --device cpu")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    wanted = None if dtype is None else getattr(torch, dtype)
    if name == "tiny":
        model = tiny_llama(seed=seed, dtype=wanted or (torch.float64 if device == "cpu" else torch.float32))
        tokenizer = None
    elif name in SHAPES:
        model, tokenizer = _random(shaped_config(name), wanted or torch.bfloat16, seed, device), None
    elif name.endswith("-shapes"):
        raise UsageError(f"unknown shapes {name!r}: known are {', '.join(SHAPES)}")
    else:
        model, tokenizer = _from_files(name, wanted, seed if random_weights else None, device)
    model = model.to(device).eval()
    vocab_size = int(model.config.get_text_config(decoder=True).vocab_size)
    return LoadedModel(name, model, tokenizer, vocab_size, next(model.parameters()).dtype)


def _random(config: Any, dtype: torch.dtype, seed: int, device: str) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def _from_files(name: str, dtype: torch.dtype | None, seed: int | None, device: str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    _check_place(name)
    logging.set_verbosity_error()  # an attention that it cannot set, say, is an error of ours, in one line
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    local = Path(name).is_dir() or not _hub_reachable()
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local)
        if seed is not None:
            model = _random(config, dtype or config.dtype or torch.float32, seed, device)
        else:
            model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype or "auto", local_files_only=local)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UsageError(_why_not(name, error, local=local)) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
    except Exception:  # many ways to have none; the reader of text falls back to UTF-8 bytes and says so
        tokenizer = None
    return model, tokenizer


def _check_place(name: str) -> None:
    path = Path(name).expanduser()
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if path.is_file():
        raise UsageError(f"--model {name} is a file: pass the folder that holds config.json")
    if path.is_dir() and not (path / "config.json").is_file():
        raise UsageError(f"--model {name} is a folder without config.json: pass a folder saved by save_pretrained")
    if not path.exists() and looks_like_path:
        raise UsageError(f"--model {name} does not exist: pass tiny, a folder, a hub id, or one of {', '.join(SHAPES)}")


def _hub_reachable() -> bool:
    """Whether the hub's host is known here; a proxy would know it better than we do."""
    from huggingface_hub import constants

    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _why_not(name: str, error: Exception, *, local: bool) -> str:
    if Path(name).is_dir():
        return f"--model {name} is no causal language model that transformers can load: {_first_line(error)}"
    if local:
        return (
            f"--model {name} is neither a folder nor in the local cache, and the hub cannot be reached: pass a folder"
        )
    return f"--model {name} could not be loaded from the hub: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
