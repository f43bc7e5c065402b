"""Torch settings: statements that give the script the global torch settings of the session."""

from __future__ import annotations

import sys


def setting_statements() -> list[str]:
    """Statements that set what differs from torch's defaults.

    Random states aren't included: random numbers of a run come from the run's seed.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    statements = []
    if torch.get_default_dtype() is not torch.float32:
        statements.append(f"torch.set_default_dtype({torch.get_default_dtype()})")
    if str(torch.get_default_device()) != "cpu":
        statements.append(f"torch.set_default_device({str(torch.get_default_device())!r})")
    if torch.get_float32_matmul_precision() != "highest":
        statements.append(f"torch.set_float32_matmul_precision({torch.get_float32_matmul_precision()!r})")
    if torch.are_deterministic_algorithms_enabled():
        warn = ", warn_only=True" if torch.is_deterministic_algorithms_warn_only_enabled() else ""
        statements.append(f"torch.use_deterministic_algorithms(True{warn})")
    if not torch.is_grad_enabled():
        statements.append("torch.set_grad_enabled(False)")
    cudnn = torch.backends.cudnn
    for name, default in (("benchmark", False), ("deterministic", False), ("enabled", True)):
        if getattr(cudnn, name) is not default:
            statements.append(f"torch.backends.cudnn.{name} = {getattr(cudnn, name)}")
    return statements
