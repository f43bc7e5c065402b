"""The magics ``%%train`` and ``%runs``."""

from __future__ import annotations

import ast
import contextlib
import difflib
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.display import display
from IPython.utils.text import FullEvalFormatter
from traitlets import Bool, Int, Unicode
from traitlets.config import Configurable

from mlnb.api import Run, resume, runs
from mlnb.api.results.session import SessionLink
from mlnb.api.submit.option_help import every_option, help_text
from mlnb.api.submit.option_reader import parse_arguments, read, split_line
from mlnb.api.submit.options import Options
from mlnb.api.submit.provenance import git_state
from mlnb.api.submit.submit import submit
from mlnb.capture import Captured, Session, analyse, capture
from mlnb.capture.cell.magics import rewrite
from mlnb.capture.source.modules import import_folders
from mlnb.errors import UsageError
from mlnb.notebook.documented import document
from mlnb.notebook.executed import executed
from mlnb.notebook.lent_generators import LentGenerators
from mlnb.notebook.maps import settle_maps
from mlnb.notebook.plan import plan
from mlnb.notebook.runs import show_runs
from mlnb.notebook.view.live_outputs import LiveOutputs
from mlnb.notebook.waiting.files import code_of, named_files
from mlnb.notebook.waiting.hook import hook
from mlnb.notebook.waiting.imports import import_local, import_now
from mlnb.notebook.waiting.pending import PendingRuns
from mlnb.rundir import RunDir
from mlnb.targets import registry
from mlnb.targets.base import Offer, Target
from mlnb.task import Task
from mlnb.version import __version__

if TYPE_CHECKING:
    from mlnb.node.data.process_state import ProcessState


def _help() -> str:
    """What ``%%train?`` shows. Made on demand, since it needs the classes of all targets."""
    return f"""Run this cell as a training job: %%train [options]

The cell, and what it needs of the session, run in another process (with --on, on another machine). The cell
returns at once; a later cell that reads one of its results waits for it. When the run has succeeded, the session
is as if the cell had run here.

{help_text(every_option())}

Sizes: 24GB, 1.5GiB, 500M. Times: 90s, 30m, 2h, 1h30m, 02:30:00; a bare number is minutes.
"""


@magics_class
class TrainMagics(Magics):
    """``%%train`` and ``%runs``. Defaults of options are traits, as ``c.TrainMagics.gpus = 4`` in IPython's config."""

    gpus = Int(-1, help="default of --gpus; -1 leaves it to the target").tag(config=True)
    ranks = Int(0, help="default of --ranks; 0 is one for each GPU").tag(config=True)
    cpus = Int(0, help="default of --cpus; 0 leaves it to the target").tag(config=True)
    memory = Unicode("", help="default of --memory").tag(config=True)
    time = Unicode("", help="default of --time").tag(config=True)
    on = Unicode("", help="default of --on").tag(config=True)
    wait = Bool(False, help="whether %%train waits for the run's end").tag(config=True)

    def __init__(
        self, shell: Any, live_outputs: LiveOutputs, pending: PendingRuns, parent: Configurable | None = None
    ) -> None:
        super().__init__(shell, parent=parent)
        self.shell: Any = shell
        self._live_outputs, self._pending = live_outputs, pending
        self._planned: object = None
        self._lent = LentGenerators(shell, pending.expects)

    def _defaults(self) -> Options:
        arguments = [f"--{name}={getattr(self, name)}" for name in ("memory", "time", "on") if getattr(self, name)]
        return replace(
            parse_arguments(arguments, runs.workspace),
            gpus=self.gpus if self.gpus >= 0 else None,
            ranks=self.ranks or None,
            cpus=self.cpus or None,
            wait=self.wait,
        )

    @no_var_expand
    @cell_magic
    def train(self, line: str, cell: str) -> None:
        """Run this cell as a training job."""
        with hook.paused():  # what mlnb reads and writes here is no use of files by a cell
            self._train(line, rewrite(cell, self.shell.transform_cell, 1))

    document(train, _help)

    def _train(self, line: str, cell: str) -> None:
        arguments, defaults, workspace = split_line(self._expand(line), "%%train"), self._defaults(), runs.workspace
        given = read(arguments, workspace, resume.target_name(arguments, runs) or defaults.on)
        resumed = resume.run_to_resume(given.get("resume"), runs)
        options = resume.complete_options(resumed, given, defaults)
        target = registry.target(options.on, workspace)
        placement = options.placement(f"train-{self._number}")
        offer = target.offer(options.resources(), placement)
        if resumed is not None:
            offer = resume.add_plan_line(resumed, options, offer)
        with contextlib.suppress(SyntaxError):  # capture refuses it with a better message
            reads = dict(self._pending.read_by(self.shell.transform_cell(cell)))
            if resumed is not None:
                reads.pop(resumed.id, None)
            self._pending.collect(reads)
        self._pending.collect_finished()
        with contextlib.suppress(SyntaxError):
            import_local(ast.parse(self.shell.transform_cell(cell)), Path.cwd())
        captured = capture(
            cell,
            self._session(),
            label=f"cell [{self._number}]",
            include=options.include,
            outputs=options.outputs,
        )
        captured = settle_maps(captured, target, offer)
        _check_outputs(options.outputs, captured, self.shell.transform_cell(cell))
        process = captured.process
        if options.seed is None and offer.resources.world_size == 1:
            varied, process, note = self._lent.vary(process)
            captured = replace(captured, process=varied, notes=(*captured.notes, *([note] if note else [])))
        captured = replace(captured, notes=(*captured.notes, *self._notes_on_files(captured, target)))
        task = self._task(captured, options, offer)
        planned = plan(captured, task, target, offer)
        if options.dry_run:
            submission = target.preview(RunDir(workspace.root / "RUN"), offer)
            print("\n\n".join(part for part in (planned.text, task.script, submission) if part))
            return
        run = self._start(task, captured, process, options, target, offer, resumed, given, name=placement.name)
        sent = captured.items, captured.outputs, captured.deletes, captured.notes
        plan_key = (target.name, offer.summary_lines, *sent)
        is_known = plan_key == self._planned
        if not is_known:  # shown above the view once, and again when it has changed; else below
            display(planned.mime_bundle(), raw=True)
        self._live_outputs.show(run)
        if is_known:
            display(planned.mime_bundle(brief=True), raw=True)
        self._planned = plan_key
        if resumed is not None:
            self._pending.drop(resumed)
        bound, changed_imports = import_now(ast.parse(self.shell.transform_cell(cell)), self.shell.user_ns)
        self._pending.forget(bound)
        changed = {*captured.outputs, *captured.deletes} - bound
        self._pending.add(run, changed | changed_imports | {*captured.changed_modules}, captured)
        if task.seed is None:
            self._lent.add(run, process)
        if options.wait:
            self._pending.collect_run(run)

    def _notes_on_files(self, captured: Captured, target: Target) -> list[str]:
        """A note for the plan if files that the cell writes don't come to the session."""
        if target.mirror is None:
            return []
        files = named_files(code_of(captured), "", self.shell.user_ns)
        has_others = files.unknown or len(files.written) > 3
        names = sorted(Path(path).name for path in files.written)[:3] + (["others"] if has_others else [])
        where = f"files that the cell writes ({', '.join(names)}) stay there, in the run directory"
        return [f"{target.name} does not see this folder: {where}; return values, not files"] if names else []

    def _expand(self, line: str) -> str:
        """The line with the values of ``{expressions}``, as IPython expands the lines of other magics."""
        if "{" not in line:
            return line
        self._pending.collect(self._pending.read_by(f"f{line.strip()!r}"))
        try:
            return FullEvalFormatter().vformat(line, (), self.shell.user_ns)
        except Exception as error:  # noqa: BLE001 - whatever the expressions raise
            raise UsageError(f"%%train {line.strip()}: {type(error).__name__}: {error}") from None

    @line_magic
    def runs(self, line: str) -> None:
        """Show runs, newest first: %runs [N] (20 without N), or one run: %runs NAME."""
        show_runs(line.strip(), self._live_outputs)

    @property
    def _number(self) -> int:
        """The running cell's number, as front ends show it; in new IPythons ``execution_count`` is the next one."""
        return len(self.shell.history_manager.input_hist_parsed) - 1

    def _session(self) -> Session:
        shell = self.shell
        return Session(
            namespace=shell.user_ns,
            hidden=shell.user_ns_hidden,
            history=list(shell.history_manager.input_hist_parsed),
            cwd=Path.cwd(),
            transform=shell.transform_cell,
            executed=executed.texts,
        )

    def _task(self, captured: Captured, options: Options, offer: Offer) -> Task:
        return Task(
            script=captured.script,
            segments=captured.segments,
            outputs=captured.outputs,
            deletes=captured.deletes,
            inputs=captured.inputs,
            resources=offer.resources,
            environment={
                "python": sys.version.split()[0],
                "torch": _version("torch"),
                "mlnb": __version__,
                "env": sorted(name for name, _ in options.env),
                "module_folders": dict(captured.module_folders),
                "import_path": import_folders(),
                **({"image": offer.placement["image"]} if "image" in offer.placement else {}),
            },
            seed=self._seed(options, offer.resources.world_size),
            parallel=options.parallel,
            interactive=True,
            returns_more=not options.outputs,
        )

    def _seed(self, options: Options, ranks: int) -> int | None:
        """The run's seed; ``None`` if its process goes on with the states of the session's generators.

        A seed is drawn from the session's torch generator, so that an earlier ``torch.manual_seed`` determines it.
        """
        torch = sys.modules.get("torch")
        if options.seed is not None or ranks == 1:
            return options.seed
        if torch is None:
            return secrets.randbelow(2**31)
        state = torch.get_rng_state()
        drawn = int(torch.randint(2**31 - 1, (1,)).item())
        if options.dry_run:
            torch.set_rng_state(state)
        return drawn

    def _start(
        self,
        task: Task,
        captured: Captured,
        process: ProcessState,
        options: Options,
        target: Target,
        offer: Offer,
        resumed: Run | None,
        given: Mapping[str, Any],
        *,
        name: str,
    ) -> Run:
        info_fields: dict[str, Any] = {
            "cell": self._number,
            "git": git_state(Path.cwd()),
            "asked": resume.requested_options(options, target),
        }
        env = dict(options.env)
        contents = captured.hashed_contents()
        link = SessionLink(captured.labels, captured.bindings, process)
        if resumed is not None:
            if resume.same_work(resumed.task, task, {path: content.digest() for path, content in contents.items()}):
                resume.continue_run(resumed, given, options, target, offer)
                resumed.attach(link)
                return resumed
            info_fields["resume"] = str(resumed.directory.checkpoints)
        run_dir = submit(task, contents, target, offer, name=name, env=env, info_fields=info_fields)
        run = Run(run_dir, target.workspace)
        run.attach(link)
        return runs.add(run)


def _check_outputs(names: Sequence[str], captured: Captured, source: str) -> None:
    """Refuse a name of ``--out`` that the cell does not have.

    Raises
    ------
    UsageError
        with the name, and the nearest name that the cell has.
    """
    uses = analyse(source)
    available = uses.stores | uses.deletes | {item.name for item in captured.items}
    for name in names:
        if name not in available and not uses.star_imports:
            near = difflib.get_close_matches(name, available, 1)
            hint = f"did you mean {near[0]}?" if near else f"it binds {', '.join(sorted(uses.stores)) or 'nothing'}"
            raise UsageError(f"--out {name}: the cell has no such name; {hint}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
