"""podman and docker: images by name, in a store of their own.

Their containers are children of a monitor or a daemon, not of the job: they outlive ``scancel``, don't get the job's
environment, and the job's device limits don't apply to them. So on each node a script runs the engine: it passes
signals on, passes the GPUs that the job has, and removes the container when the command ends. If the script itself is
killed, the container ends too: its standard input is a pipe from the script, and its first process waits for the end of
that.

Sources: ``podman-run(1)`` of 4.3 and ``docker container run`` (names of variables without a value, ``--init``,
``--sig-proxy``, ``--pull``, ``--userns``); "Support for Container Device Interface" of the NVIDIA Container Toolkit;
``sbatch(1)`` and ``srun(1)``: ``SLURM_JOB_GPUS`` and ``SLURM_STEP_GPUS`` count as the machine does, whereas
``CUDA_VISIBLE_DEVICES`` counts what the job's cgroup lets through; "Running ROCm Docker containers" for AMD's devices.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from mlnb.targets.containers.base import NAMES, Bind, Engine, Wrapped, with_environment

_LABEL = "mlnb.run"
_SECONDS = 20.0

_RUN = (
    NAMES
    + r"""engine=$1 name=$2-${SLURM_NODEID:-0} gpus=$3 run='' received=''
shift 3
if [ "$gpus" != none ]; then
    ids=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-${CUDA_VISIBLE_DEVICES:-}}} visible='' count=0
    IFS=,
    for id in $ids; do
        [ "$gpus" != cdi ] || set -- "--device=nvidia.com/gpu=$id" "$@"
        visible=$visible${visible:+,}$count count=$((count + 1))
    done
    unset IFS
    case $gpus in
    cdi) [ -n "$ids" ] || set -- --device=nvidia.com/gpu=all "$@" ;;
    *) if [ -n "$ids" ]; then set -- "--gpus=\"device=$ids\"" "$@"; else set -- --gpus=all "$@"; fi ;;
    esac
    [ -z "$ids" ] || export CUDA_VISIBLE_DEVICES="$visible"
fi
for variable in $(names); do set -- "--env=$variable" "$@"; done
forward() { received=$1; [ -z "$run" ] || kill -s "$1" "$run"; }
for number in TERM INT HUP USR1 USR2; do trap "forward $number" "$number"; done
"$engine" rm --force "$name" >/dev/null 2>&1
if [ -z "$received" ]; then
    pipe=$(mktemp -d) && mkfifo "$pipe/0" && exec 5<>"$pipe/0" 6<"$pipe/0" && rm -r "$pipe" || exit 1
    "$engine" run --interactive "--name=$name" "$@" <&6 5>&- 6>&- &
    run=$!
    [ -z "$received" ] || kill -s "$received" "$run"
    while wait "$run"; code=$?; kill -0 "$run" 2>/dev/null; do :; done
else
    code=143
fi
"$engine" rm --force "$name" >/dev/null 2>&1
exit "$code"
"""
)

_UNTIL_CLOSED = r"""main=$$
exec 3<&0 </dev/null
( { while read -r _; do :; done; kill -s KILL "$main"; } <&3 & )
exec "$@" 3<&-
"""
"""Shell: run a command until it ends, or until standard input is closed; nothing is ever written to that.

The command replaces this shell (exec), which is the process that ``--init`` waits for: when it ends, all others in the
container do. The process that reads standard input is not a child of the command, which might wait for it.
"""


class _Oci(Engine):
    """What podman and docker have in common."""

    @abstractmethod
    def _user(self) -> list[str]:
        """Options by which files belong to the user, inside and outside."""

    @abstractmethod
    def _memory(self, memory: int) -> list[str]:
        """Options that limit the container's memory to ``memory`` bytes."""

    gpu_script: str
    """How the script passes GPUs: ``cdi`` or ``gpus``."""

    @classmethod
    def accepts(cls, image: str) -> bool:
        """Names in a registry or in the engine's store."""
        return "://" not in image and not image.startswith("/")

    def wrap(
        self,
        command: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] = (),
        gpus: int = 0,
        workdir: str = "",
        name: str = "mlnb",
        memory: int | None = None,
    ) -> Wrapped:
        """See :meth:`Engine.wrap`."""
        self.check_arguments(binds, pass_env, workdir)
        kind = self.settings.gpu if gpus else "none"
        # ranks of several nodes connect through the host's network; data loaders need the host's shared memory
        arguments = ["--rm", "--init", "--network=host", "--ipc=host", "--log-driver=none", "--stop-timeout=1"]
        arguments += ["--security-opt=label=disable", f"--pull={self.settings.pull}", f"--label={_LABEL}={name}"]
        arguments += self._user()
        arguments += ["--device=/dev/kfd", "--device=/dev/dri", "--group-add=video"] if kind == "amd" else []
        arguments += self._memory(memory) if memory is not None else []
        arguments += [f"--volume={bind.source}:{bind.inside}:{'rw' if bind.writable else 'ro'}" for bind in binds]
        arguments += [f"--workdir={workdir}"] if workdir else []
        arguments += [f"--env={variable}" for variable in ("USER", "LOGNAME", *pass_env)]
        first, *rest = "sh", "-c", _UNTIL_CLOSED, "mlnb", *with_environment(command, env)
        arguments += [*self.settings.options, f"--entrypoint={first}", self.image, *rest]
        script = self.gpu_script if kind == "nvidia" else "none"
        list_ids = f"{shlex.quote(self.command)} ps --all --quiet --filter {shlex.quote(f'label={_LABEL}={name}')}"
        remove = f'for id in $({list_ids}); do {shlex.quote(self.command)} rm --force "$id" || :; done >/dev/null 2>&1'
        return Wrapped(["sh", "-c", _RUN, "mlnb", self.command, name, script, *arguments], after=[remove])

    def identity(self) -> str | None:
        """The id of the image in this machine's store; ``None`` if it isn't there or the engine doesn't answer."""
        try:
            done = subprocess.run(
                [self.command, "image", "inspect", "--format={{.Id}}", self.image],
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def missing(self) -> str:
        """See :meth:`Engine.missing`."""
        if self.settings.pull != "never" or self.identity() is not None:
            return ""
        return f"{self.name} has no such image here. Run: {self.command} pull {self.image}"


class Podman(_Oci):
    """``podman run``, as root or rootless."""

    name = program = "podman"
    gpu_script = "cdi"
    variables = ("CONTAINER_HOST", "CONTAINERS_*", "REGISTRY_AUTH_FILE", "DBUS_SESSION_BUS_ADDRESS")

    def _user(self) -> list[str]:
        return [] if os.getuid() == 0 else ["--userns=keep-id"]

    def _memory(self, memory: int) -> list[str]:
        # rootless, the container stays in the job's cgroup, whose limit applies, and may not have one of its own
        return [f"--memory={memory}b"] if os.getuid() == 0 else []


class Docker(_Oci):
    """``docker run``."""

    name = program = "docker"
    gpu_script = "gpus"
    variables = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")

    def _user(self) -> list[str]:
        # a user that the image doesn't have gets '/' as home, which is not writable
        return [f"--user={os.getuid()}:{os.getgid()}", "--env=HOME=/tmp"] if os.getuid() else []

    def _memory(self, memory: int) -> list[str]:
        return [f"--memory={memory}b"]
