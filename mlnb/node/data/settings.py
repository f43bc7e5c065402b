"""Settings of torch and numpy that hold for a process, as statements that set them.

torch and numpy keep these where no change of a Python object shows them, so they are read by their own functions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any


def setting_statements(*, defaults: bool = False) -> list[str]:
    """Statements that set what differs from the defaults of torch and numpy; with ``defaults``, all that is known."""
    statements = []
    for library, read in (("torch", _torch), ("numpy", _numpy)):
        if library in sys.modules:
            statements += [text for text, is_default in read(sys.modules[library]) if defaults or not is_default]
    return statements


def _torch(torch: Any) -> Iterator[tuple[str, bool]]:
    """Statements, each with whether it sets the default."""
    dtype, device = torch.get_default_dtype(), str(torch.get_default_device())
    yield f"torch.set_default_dtype({dtype})", dtype is torch.float32
    yield f"torch.set_default_device({None if device == 'cpu' else device!r})", device == "cpu"
    precision = torch.get_float32_matmul_precision()
    yield f"torch.set_float32_matmul_precision({precision!r})", precision == "highest"
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    warn = ", warn_only=True" if torch.is_deterministic_algorithms_warn_only_enabled() else ""
    yield f"torch.use_deterministic_algorithms({is_deterministic}{warn})", not is_deterministic
    yield f"torch.set_grad_enabled({torch.is_grad_enabled()})", torch.is_grad_enabled()
    anomaly, check = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    check_text = "" if check else ", check_nan=False"
    yield f"torch.autograd.set_detect_anomaly({anomaly}{check_text})", not anomaly
    for path, default in _FLAGS:
        value = _attribute(torch, path)
        if isinstance(value, bool):
            yield f"torch.{path} = {value}", value is default
    from mlnb.node import torch_private  # imports torch

    shown = {name: value for name, value in torch_private.print_options().items() if name in _PRINT_OPTIONS}
    if shown:
        arguments = ", ".join(f"{name}={_literal(value)}" for name, value in shown.items())
        yield f"torch.set_printoptions({arguments})", shown == {**shown, **_PRINT_OPTIONS}


_FLAGS = (
    ("backends.cudnn.benchmark", False),
    ("backends.cudnn.deterministic", False),
    ("backends.cudnn.enabled", True),
    ("backends.cudnn.allow_tf32", True),
)

_PRINT_OPTIONS = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def _numpy(numpy: Any) -> Iterator[tuple[str, bool]]:
    errors = numpy.geterr()
    text = ", ".join(f"{name}={value!r}" for name, value in errors.items())
    yield f"numpy.seterr({text})", errors == _NUMPY_ERRORS
    options = {name: value for name, value in numpy.get_printoptions().items() if name in _NUMPY_PRINT_OPTIONS}
    text = ", ".join(f"{name}={_literal(value)}" for name, value in options.items())
    yield f"numpy.set_printoptions({text})", options == {**options, **_NUMPY_PRINT_OPTIONS}


_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}

_NUMPY_PRINT_OPTIONS = {
    "precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False,
    "nanstr": "nan", "infstr": "inf", "sign": "-", "floatmode": "maxprec",
}  # fmt: skip


def _literal(value: Any) -> str:
    """An expression for a plain value."""
    return 'float("inf")' if value == float("inf") else repr(value)


def _attribute(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(value, name, None)
    return value
