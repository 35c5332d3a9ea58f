"""`torchaudio` on any torch: `from fnl.data.torchaudio_cpu import torchaudio`.

The published torchaudio wheels link CUDA, so on a CPU torch `import torchaudio` raises OSError
while it loads its extension library. Nothing used here needs that library (the transforms, the
resampler and the SPEECHCOMMANDS index are pure PyTorch), so on such a torch a stand-in says that
the extension is not available, which torchaudio knows how to live with. Python's import lock makes
this happen once, whichever thread comes first. Nothing else in the project imports torchaudio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import torch

_EXTENSION = "torchaudio._extension"


def _fail_if_no_align(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    """Replace a function of the missing library by one that says so."""

    def unavailable(*_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError(f"{function.__name__} needs torchaudio's CUDA library, which is absent")

    return unavailable


def _stand_in() -> ModuleType:
    """Return what torchaudio itself sees when it was installed without its library."""
    module = ModuleType(_EXTENSION, "Stand-in: torchaudio without its extension library.")
    module.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=_fail_if_no_align,
    )
    return module


if torch.version.cuda is None and "torchaudio" not in sys.modules:
    sys.modules.setdefault(_EXTENSION, _stand_in())

import torchaudio  # noqa: E402 - importable only after the stand-in is in place

__all__ = ["torchaudio"]
