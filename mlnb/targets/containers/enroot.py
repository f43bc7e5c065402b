"""enroot, alone and through SLURM's plugin pyxis: images are ``.sqsh`` files; pyxis accepts names in registries too.

enroot stays in the job's cgroup and ends with its command. Its hook for NVIDIA's driver reads
``NVIDIA_VISIBLE_DEVICES``: ``all`` for those that the job's cgroup allows, or ``void``. Sources: ``enroot start``
(doc/cmd), "Standard hooks" and "Image format" of enroot's documentation, and pyxis' wiki page "Usage". Mounts are lines
of an fstab with colons, so their paths can't contain blanks; a variable that is named but not set becomes an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlnb.errors import UsageError
from mlnb.targets.containers.base import NAMES, Bind, Engine, Wrapped, with_environment

_START = (
    NAMES
    + r"""engine=$1 pass_env=$2
shift 2
for variable in $(names) $pass_env; do
    eval "[ -z \"\${$variable+set}\" ]" || set -- --env "$variable" "$@"
done
exec "$engine" start "$@"
"""
)
_AT = 'cd -- "$0" && exec "$@"'
_BLANKS = " \t\u00a0\u2003\u3000"


def _gpu(gpus: int) -> dict[str, str]:
    if not gpus:
        return {"NVIDIA_VISIBLE_DEVICES": "void"}
    return {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}


class Enroot(Engine):
    """``enroot start`` with a ``.sqsh`` file, or the name of a container that the nodes have."""

    name = program = "enroot"
    variables = ("ENROOT_*",)
    forbidden = f":,\\{_BLANKS}"

    @classmethod
    def accepts(cls, image: str) -> bool:
        """Image files of its own."""
        return image.endswith(".sqsh")

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
        """See :meth:`Engine.wrap`. Raises ``UsageError`` for a name in a registry: enroot imports those first."""
        self.check_arguments(binds, pass_env, workdir)
        if not self.image.startswith("/") and not self.image.replace("-", "").replace("_", "").isalnum():
            raise UsageError(
                f"--image {self.image}: enroot starts .sqsh files; make one: enroot import -o FILE.sqsh docker://IMAGE"
            )
        arguments: list[str] = []
        for bind in binds:
            mode = "rw" if bind.writable else "ro"
            arguments += ["--mount", f"{bind.source}:{bind.inside}:none:x-create=dir,rbind,{mode}"]
        if self.settings.gpu == "nvidia":
            arguments += [word for key, value in _gpu(gpus).items() for word in ("--env", f"{key}={value}")]
        run = with_environment(command, env)
        run = ["sh", "-c", _AT, workdir, *run] if workdir else run
        names = " ".join(pass_env)
        return Wrapped(
            ["sh", "-c", _START, "mlnb", self.command, names, *arguments, *self.settings.options, self.image, *run]
        )


class Pyxis(Engine):
    """``srun --container-image``: options for the launcher instead of a command."""

    name = "pyxis"
    program = "srun"
    targets = frozenset({"slurm"})
    forbidden = f":,\\{_BLANKS}"

    def wrap(
        self,
        command: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] = (),
        gpus: int = 0,
        workdir: str = "",
        name: str = "mlnb",  # noqa: ARG002 - it ends with SLURM's job
        memory: int | None = None,  # noqa: ARG002 - the job's limit holds
    ) -> Wrapped:
        """See :meth:`Engine.wrap`. The job's environment is passed on; ``pass_env`` overrides the image's."""
        self.check_arguments(binds, pass_env, workdir)
        image = self.image.removeprefix("docker://")
        mounts = [f"{bind.source}:{bind.inside}:{'rw' if bind.writable else 'ro'}" for bind in binds]
        hook = _gpu(gpus) if self.settings.gpu == "nvidia" else {}
        arguments = [f"--container-image={image}", "--no-container-entrypoint", "--no-container-remap-root"]
        arguments += [f"--container-mounts={','.join(mounts)}"] if mounts else []
        arguments += [f"--container-workdir={workdir}"] if workdir else []
        overriding = [*pass_env, *hook]
        arguments += [f"--container-env={','.join(overriding)}"] if overriding else []
        before = [f"export {key}={value}" for key, value in hook.items()]
        return Wrapped(with_environment(command, env), [*arguments, *self.settings.options], before)

    def is_installed(self) -> bool:
        """Never on this machine: only a job of SLURM can look into an image."""
        return False
