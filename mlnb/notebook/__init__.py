"""The IPython extension: ``%load_ext mlnb`` adds ``%%train``, ``%runs``, ``%pool`` and waiting for results."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Set up a kernel: ``%load_ext mlnb``. A second call does nothing."""
    from mlnb.notebook import complete, runs
    from mlnb.notebook.executed import executed
    from mlnb.notebook.first_line import move_magic_up
    from mlnb.notebook.magics import TrainMagics
    from mlnb.notebook.pools import PoolMagics
    from mlnb.notebook.view.live_outputs import LiveOutputs
    from mlnb.notebook.waiting import pending
    from mlnb.notebook.waiting.hook import hook

    if pending.current is not None and any(isinstance(t, pending.WaitTransformer) for t in shell.ast_transformers):
        return
    live_outputs = LiveOutputs()
    pending.current = pending.PendingRuns(shell, live_outputs)
    magics = TrainMagics(shell, live_outputs, pending.current, parent=shell)
    shell.register_magics(magics, PoolMagics(shell))
    shell.configurables.append(magics)  # for %config
    shell.input_transformers_cleanup.insert(0, move_magic_up)
    shell.ast_transformers.append(pending.WaitTransformer(pending.current))
    hook.install(pending.current, shell.user_ns)
    shell.events.register("pre_run_cell", hook.begin)
    shell.events.register("post_run_cell", hook.end)
    shell.events.register("post_run_cell", pending.current.after_cell)
    complete.install(shell)
    runs.install(shell, live_outputs)
    executed.install()
    shell.user_ns.setdefault("mlnb", sys.modules["mlnb"])  # messages mention mlnb.runs and the like
    threading.Thread(target=_prepare, name="mlnb-warm", daemon=True).start()


def _prepare() -> None:
    """Load what the first ``%%train`` needs, so that it starts faster."""
    from mlnb.errors import MlnbError
    from mlnb.notebook.view.live_outputs import has_front_end
    from mlnb.targets.registry import target
    from mlnb.workspace import Workspace

    with contextlib.suppress(OSError, MlnbError):
        target(None, Workspace.of_process()).prepare()
    if has_front_end():
        with contextlib.suppress(ImportError):
            from mlnb.notebook.view import widget  # noqa: F401
