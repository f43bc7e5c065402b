"""The Jupyter server's part: runs over HTTP and their points over WebSockets, whether a kernel lives or not."""

from __future__ import annotations

import os
from typing import Any

SERVED = "MLNB_SERVED"
"""Set in the server's environment, so that kernels it starts know: the runs in this folder are served."""


def _load_jupyter_server_extension(app: Any) -> None:
    """Jupyter calls this when a server starts."""
    from mlnb.server.handlers import routes
    from mlnb.server.manager import Manager
    from mlnb.targets.config.paths import runs_root

    manager = Manager()
    app.web_app.add_handlers(".*$", routes(app.web_app.settings["base_url"], manager))
    # What the page knows from its first byte on need not be asked for, which a server without us would answer
    # with an error in the browser's console.
    app.web_app.settings.setdefault("page_config_data", {})["mlnbServer"] = "1"
    os.environ[SERVED] = str(runs_root())
