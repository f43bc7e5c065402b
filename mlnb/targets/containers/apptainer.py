"""Apptainer, and Singularity from which it comes: images are ``.sif`` files, sandbox folders or ``docker://`` names.

They run the command as a child of their own in the job's cgroup, pass signals on and end with it; the job's environment
goes along. Sources: the pages "Bind Paths and Mounts", "GPU Support" and "Environment and Metadata" of the Apptainer
user guide, and ``apptainer-exec(1)``. ``--pwd`` is the name of the option that both programs know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlnb.targets.containers.base import Bind, Engine, Wrapped, inside

_GPU = {"nvidia": ["--nv"], "amd": ["--rocm"], "none": []}


class Apptainer(Engine):
    """``apptainer exec``."""

    name = program = "apptainer"
    forbidden = ":,\\"

    def wrap(
        self,
        command: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] = (),
        gpus: int = 0,
        workdir: str = "",
        name: str = "mlnb",  # noqa: ARG002 - it ends with its command, nobody needs to find it
        memory: int | None = None,  # noqa: ARG002 - the job's limit holds
    ) -> Wrapped:
        """See :meth:`Engine.wrap`. Variables that the image's definition sets for good win over ``pass_env``."""
        self.checked(binds, pass_env, workdir)
        words = [self.command, "exec", *(_GPU[self.settings.gpu] if gpus else [])]
        for bind in binds:
            words += ["--bind", f"{bind.source}:{bind.inside}:{'rw' if bind.writable else 'ro'}"]
        words += ["--pwd", workdir] if workdir else []
        return Wrapped([*words, *self.settings.options, self.image, *inside(command, env)])


class Singularity(Apptainer):
    """``singularity exec``."""

    name = program = "singularity"
