"""Torch's own switches that the session has turned: the script turns them too."""

from __future__ import annotations

import sys


def lines() -> list[str]:
    """Statements that set what isn't as torch comes.

    Random states aren't among them: what is drawn in a run comes from the run's seed.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    found = []
    if torch.get_default_dtype() is not torch.float32:
        found.append(f"torch.set_default_dtype({torch.get_default_dtype()})")
    if str(torch.get_default_device()) != "cpu":
        found.append(f"torch.set_default_device({str(torch.get_default_device())!r})")
    if torch.get_float32_matmul_precision() != "highest":
        found.append(f"torch.set_float32_matmul_precision({torch.get_float32_matmul_precision()!r})")
    if torch.are_deterministic_algorithms_enabled():
        warn = ", warn_only=True" if torch.is_deterministic_algorithms_warn_only_enabled() else ""
        found.append(f"torch.use_deterministic_algorithms(True{warn})")
    if not torch.is_grad_enabled():
        found.append("torch.set_grad_enabled(False)")
    cudnn = torch.backends.cudnn
    for name, usual in (("benchmark", False), ("deterministic", False), ("enabled", True)):
        if getattr(cudnn, name) is not usual:
            found.append(f"torch.backends.cudnn.{name} = {getattr(cudnn, name)}")
    return found
