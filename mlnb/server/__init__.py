"""The Jupyter server extension: serves runs over HTTP, and their points over WebSockets, without a kernel."""

from __future__ import annotations

import os
from typing import Any

SERVED = "MLNB_SERVED"
"""Environment variable that tells the kernels of this server which folder's runs it serves."""


def _load_jupyter_server_extension(app: Any) -> None:
    """Jupyter calls this when a server starts."""
    from mlnb.server.handlers import routes
    from mlnb.server.manager import Manager
    from mlnb.workspace import Workspace

    workspace = Workspace.of_process()
    manager = Manager(workspace)
    app.web_app.add_handlers(".*$", routes(app.web_app.settings["base_url"], manager))
    # In the page, so that the front end need not ask: a server without this extension would answer with an error in
    # the browser's console.
    app.web_app.settings.setdefault("page_config_data", {})["mlnbServer"] = "1"
    os.environ[SERVED] = str(workspace.root)
