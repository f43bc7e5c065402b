"""enroot, alone and through SLURM's plugin pyxis: images are ``.sqsh`` files; pyxis takes registries' names too.

enroot stays in the job's cgroup and ends with its command. Its hook for NVIDIA's driver obeys
``NVIDIA_VISIBLE_DEVICES``: all that the job's cgroup lets through, or ``void``. Sources: ``enroot start`` (doc/cmd),
"Standard hooks" and "Image format" of enroot's documentation: mounts are lines of an fstab with colons, so that their
paths can't hold blanks, and a variable that is named but not set becomes an empty one; pyxis' wiki page "Usage".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlnb.errors import UsageError
from mlnb.targets.containers.base import NAMES, Bind, Engine, Wrapped, inside

_START = (
    NAMES
    + r"""engine=$1 asked=$2
shift 2
for variable in $(names) $asked; do
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
        name: str = "mlnb",  # noqa: ARG002 - it ends with its command, nobody needs to find it
        memory: int | None = None,  # noqa: ARG002 - the job's limit holds
    ) -> Wrapped:
        """See :meth:`Engine.wrap`. Raises ``UsageError`` for a registry's name too: enroot imports those first."""
        self.checked(binds, pass_env, workdir)
        if not self.image.startswith("/") and not self.image.replace("-", "").replace("_", "").isalnum():
            raise UsageError(
                f"--image {self.image}: enroot starts .sqsh files; make one: enroot import -o FILE.sqsh docker://IMAGE"
            )
        words: list[str] = []
        for bind in binds:
            mode = "rw" if bind.writable else "ro"
            words += ["--mount", f"{bind.source}:{bind.inside}:none:x-create=dir,rbind,{mode}"]
        if self.settings.gpu == "nvidia":
            words += [word for key, value in _gpu(gpus).items() for word in ("--env", f"{key}={value}")]
        run = inside(command, env)
        run = ["sh", "-c", _AT, workdir, *run] if workdir else run
        asked = " ".join(pass_env)
        return Wrapped(
            ["sh", "-c", _START, "mlnb", self.command, asked, *words, *self.settings.options, self.image, *run]
        )


class Pyxis(Engine):
    """``srun --container-image``: no prefix, but options of the launcher."""

    name = "pyxis"
    program = "srun"
    systems = frozenset({"slurm"})
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
        name: str = "mlnb",  # noqa: ARG002 - SLURM knows the job
        memory: int | None = None,  # noqa: ARG002 - the job's limit holds
    ) -> Wrapped:
        """See :meth:`Engine.wrap`. The job's environment goes along; ``pass_env`` wins over the image's."""
        self.checked(binds, pass_env, workdir)
        image = self.image.removeprefix("docker://")
        mounts = [f"{bind.source}:{bind.inside}:{'rw' if bind.writable else 'ro'}" for bind in binds]
        hook = _gpu(gpus) if self.settings.gpu == "nvidia" else {}
        words = [f"--container-image={image}", "--no-container-entrypoint", "--no-container-remap-root"]
        words += [f"--container-mounts={','.join(mounts)}"] if mounts else []
        words += [f"--container-workdir={workdir}"] if workdir else []
        wins = [*pass_env, *hook]
        words += [f"--container-env={','.join(wins)}"] if wins else []
        before = [f"export {key}={value}" for key, value in hook.items()]
        return Wrapped(inside(command, env), [*words, *self.settings.options], before)

    def here(self) -> bool:
        """Never: to look into an image, a job would have to be queued."""
        return False
