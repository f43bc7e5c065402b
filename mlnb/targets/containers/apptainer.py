"""Apptainer, and its predecessor Singularity: images are ``.sif`` files, folders, or names such as ``docker://NAME``.

The command is a child of theirs in the job's cgroup; they pass signals on to it and end with it, and pass the
environment on. Sources: the pages "Bind Paths and Mounts", "GPU Support" and "Environment and Metadata" of the
Apptainer user guide, and ``apptainer-exec(1)``. ``--pwd`` is an option that both programs have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlnb.targets.containers.base import Bind, Engine, Wrapped, with_environment

_GPU = {"nvidia": ["--nv"], "amd": ["--rocm"], "none": []}


class Apptainer(Engine):
    """``apptainer exec``."""

    name = program = "apptainer"
    forbidden = ":,\\"
    variables = ("APPTAINER_CACHEDIR", "APPTAINER_TMPDIR", "SINGULARITY_CACHEDIR", "SINGULARITY_TMPDIR")

    @classmethod
    def accepts(cls, image: str) -> bool:
        """Image files of its own, folders, and names with a transport (``docker://``)."""
        return image.endswith((".sif", ".img")) or "://" in image or (image.startswith("/") and Path(image).is_dir())

    def wrap(
        self,
        command: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] = (),
        gpus: int = 0,
        workdir: str = "",
        name: str = "mlnb",  # noqa: ARG002 - it ends with its command, so it need not be found again
        memory: int | None = None,  # noqa: ARG002 - the job's limit holds
    ) -> Wrapped:
        """See :meth:`Engine.wrap`. Variables that the image's definition sets unconditionally override ``pass_env``."""
        self.check_arguments(binds, pass_env, workdir)
        arguments = [self.command, "exec", *(_GPU[self.settings.gpu] if gpus else [])]
        for bind in binds:
            arguments += ["--bind", f"{bind.source}:{bind.inside}:{'rw' if bind.writable else 'ro'}"]
        arguments += ["--pwd", workdir] if workdir else []
        return Wrapped([*arguments, *self.settings.options, self.image, *with_environment(command, env)])


class Singularity(Apptainer):
    """``singularity exec``."""

    name = program = "singularity"
