"""podman and docker: images by name, in a store of their own.

Their containers belong to a monitor or a daemon, not to the job: they outlive ``scancel``, don't see the job's
environment, and its device limits don't hold for them. So a script stands in between on each node: it passes signals
on, hands over the GPUs that the job has, and takes the container away when the command ends. Where the script itself is
killed, the container ends by itself: its standard input comes from the script, and its first process waits for the end
of that.

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

from mlnb.targets.containers.base import NAMES, Bind, Engine, Wrapped, inside

_LABEL = "mlnb.run"
_SECONDS = 20.0

_RUN = (
    NAMES
    + r"""engine=$1 name=$2-${SLURM_NODEID:-0} gpus=$3 run='' told=''
shift 3
if [ "$gpus" != none ]; then
    ids=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-${CUDA_VISIBLE_DEVICES:-}}} seen='' count=0
    IFS=,
    for id in $ids; do
        [ "$gpus" != cdi ] || set -- "--device=nvidia.com/gpu=$id" "$@"
        seen=$seen${seen:+,}$count count=$((count + 1))
    done
    unset IFS
    case $gpus in
    cdi) [ -n "$ids" ] || set -- --device=nvidia.com/gpu=all "$@" ;;
    *) if [ -n "$ids" ]; then set -- "--gpus=\"device=$ids\"" "$@"; else set -- --gpus=all "$@"; fi ;;
    esac
    [ -z "$ids" ] || export CUDA_VISIBLE_DEVICES="$seen"
fi
for variable in $(names); do set -- "--env=$variable" "$@"; done
heed() { told=$1; [ -z "$run" ] || kill -s "$1" "$run"; }
for number in TERM INT HUP USR1 USR2; do trap "heed $number" "$number"; done
"$engine" rm --force "$name" >/dev/null 2>&1
if [ -z "$told" ]; then
    leash=$(mktemp -d) && mkfifo "$leash/0" && exec 5<>"$leash/0" 6<"$leash/0" && rm -r "$leash" || exit 1
    "$engine" run --interactive "--name=$name" "$@" <&6 5>&- 6>&- &
    run=$!
    [ -z "$told" ] || kill -s "$told" "$run"
    while wait "$run"; code=$?; kill -0 "$run" 2>/dev/null; do :; done
else
    code=143
fi
"$engine" rm --force "$name" >/dev/null 2>&1
exit "$code"
"""
)

_LEASHED = r"""main=$$
exec 3<&0 </dev/null
( { while read -r _; do :; done; kill -s KILL "$main"; } <&3 & )
exec "$@" 3<&-
"""
"""Shell: run a command until it ends, or until the standard input does, which nothing is ever written to.

The command has this shell's process, which ``--init`` waits for: with it all others end that are inside. The one that
waits is no child of it, nor has it been given to wait for by anybody who would.
"""


class _Oci(Engine):
    """What both have in common."""

    @abstractmethod
    def _user(self) -> list[str]:
        """Files are the person's own, inside and outside."""

    @abstractmethod
    def _memory(self, memory: int) -> list[str]:
        """A limit of the container's own."""

    gpu_script: str

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
        self.checked(binds, pass_env, workdir)
        kind = self.settings.gpu if gpus else "none"
        # ranks find each other through the host's network; shared memory is the host's, for loaders with workers
        words = ["--rm", "--init", "--network=host", "--ipc=host", "--log-driver=none", "--stop-timeout=1"]
        words += ["--security-opt=label=disable", f"--pull={self.settings.pull}", f"--label={_LABEL}={name}"]
        words += self._user()
        words += ["--device=/dev/kfd", "--device=/dev/dri", "--group-add=video"] if kind == "amd" else []
        words += self._memory(memory) if memory is not None else []
        words += [f"--volume={bind.source}:{bind.inside}:{'rw' if bind.writable else 'ro'}" for bind in binds]
        words += [f"--workdir={workdir}"] if workdir else []
        words += [f"--env={variable}" for variable in ("USER", "LOGNAME", *pass_env)]
        first, *rest = "sh", "-c", _LEASHED, "mlnb", *inside(command, env)
        words += [*self.settings.options, f"--entrypoint={first}", self.image, *rest]
        script = self.gpu_script if kind == "nvidia" else "none"
        found = f"{shlex.quote(self.command)} ps --all --quiet --filter {shlex.quote(f'label={_LABEL}={name}')}"
        remove = f'for one in $({found}); do {shlex.quote(self.command)} rm --force "$one" || :; done >/dev/null 2>&1'
        return Wrapped(["sh", "-c", _RUN, "mlnb", self.command, name, script, *words], after=[remove])

    def identity(self) -> str | None:
        """The image's id in the store of this machine."""
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


class Podman(_Oci):
    """``podman run``, as root or without."""

    name = program = "podman"
    gpu_script = "cdi"

    def _user(self) -> list[str]:
        return [] if os.getuid() == 0 else ["--userns=keep-id"]

    def _memory(self, memory: int) -> list[str]:
        # without root, the container stays in the job's cgroup, whose limit holds, and may not have one of its own
        return [f"--memory={memory}b"] if os.getuid() == 0 else []


class Docker(_Oci):
    """``docker run``."""

    name = program = "docker"
    gpu_script = "gpus"

    def _user(self) -> list[str]:
        # a user whom the image doesn't know has '/' for a home, and can't write there
        return [f"--user={os.getuid()}:{os.getgid()}", "--env=HOME=/tmp"] if os.getuid() else []

    def _memory(self, memory: int) -> list[str]:
        return [f"--memory={memory}b"]
