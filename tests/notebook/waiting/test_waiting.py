"""A cell with ``%%train`` returns at once; a cell that reads one of its results waits, every other one runs."""

from __future__ import annotations

import shutil

import pytest

from mlnb.api import runs
from mlnb.rundir import FINAL
from tests.notebook.conftest import Gate
from tests.notebook.kernels import Kernel


def test_the_cell_returns_while_the_run_goes_on_and_other_cells_run(nb: Kernel, gate: Gate) -> None:
    started = nb.ok(f"%%train --name free\n{gate.wait}\nanswer = 42\n")
    assert started.run["name"] == "free"
    assert nb.ok("6 * 7").result == "42"
    assert runs["free"].state not in FINAL
    assert nb.look("'answer' in globals()") == "False"
    reading = nb.send("answer")
    nb.until_waiting(reading)
    assert not reading.idle
    gate.open()
    assert nb.finish(reading).result == "42"
    assert runs["free"].state == "succeeded"


READERS = {
    "directly": "print(answer)",
    "a function's globals": "print(ask())",
    "a method's globals": "print(Asker().ask())",
    "a comprehension": "print([answer for _ in range(1)][0])",
    "an f-string": "print(f'{answer}')",
    "an augmented assignment": "answer += 0\nprint(answer)",
    "a %%time cell": "%%time\nprint(answer)",
    "a %time line": "%time print(answer)",
    "a shell command": "!echo {answer}",
    "the output of a shell command": "said = !echo {answer}\nprint(said)",
    "a %time line that assigns": "%time got = answer\nprint(got)",
    "a %%capture cell": "%%capture shown\nprint(answer)\nanswer_copy = answer\n",
    "globals()": "print(globals()['answer'])",
    "globals().get in a function": "print(look('answer'))",
    "the list of names": "print(answer if 'answer' in dir() else 'none', globals()['answer'])",
    "%whos": "%whos",
    "a script with the session's names": "Path('reads.py').write_text('print(answer)')\n%run -i reads.py",
    "evaluated code": "print(eval('ans' + 'wer'))",
    "executed code": "exec('print(' + 'ans' + 'wer)')",
    "all globals": "print({**globals()}['ans' + 'wer'])",
    "the namespace of the shell": "print(get_ipython().user_ns['answer'])",
    "the module of the notebook": "import __main__\nprint(__main__.answer)",
    "@ in a query": "print(frame.query('x < @answer').x.sum())",
    "@ in a query that another cell wrote": "print(frame.query(question).x.sum())",
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_however_a_cell_reads_a_result_it_waits(nb: Kernel, gate: Gate, reader: str) -> None:
    nb.ok("answer = -1\ndef ask(): return answer\nclass Asker:\n    def ask(self): return ask()")
    nb.ok("import pandas as pd\nframe = pd.DataFrame({'x': [1, 41, 99]})\nquestion = 'x < @answer'")
    nb.ok("def look(name): return globals().get(name)")
    nb.ok(f"%%train --name read\n{gate.wait}\nanswer = 42\n")
    reading = nb.send(reader)
    nb.until_waiting(reading)
    gate.open()
    nb.finish(reading)
    assert reading.status == "ok", reading.text
    assert "42" in reading.out or reader.startswith("%%capture"), reading.text
    assert nb.look("answer") == "42"


HIDDEN = {
    "executed code": "exec('made = 42')",
    "globals()": "globals()['ma' + 'de'] = 42",
    "a dictionary of globals": "g = globals()\ng.update({'ma' + 'de': 42})",
    "the module": "import sys\nsetattr(sys.modules[__name__], 'made', 42)",
    "a module by its name": "import __main__\n__main__.made = 42",
    "a frame": "import sys\ndef put(): sys._getframe(1).f_globals['made'] = 42\nput()",
    "a function of the session": "bind('made', 42)",
}


@pytest.mark.parametrize("binding", HIDDEN.values(), ids=HIDDEN)
def test_who_reads_a_name_that_a_run_may_bind_unseen_waits(nb: Kernel, gate: Gate, binding: str) -> None:
    nb.ok("def bind(name, value): globals()[name] = value")
    nb.ok(f"%%train --name unseen\n{gate.wait}\n{binding}\n")
    reading = nb.send("made")
    nb.until_waiting(reading)
    gate.open()
    assert nb.finish(reading).result == "42"


def test_a_name_that_no_run_can_bind_is_an_error_at_once(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name shown\n{gate.wait}\nmodel.eval()\nsteps(model, optimizer)\nanswer = 42\n")
    typo = nb.send("print(anwser)", stop_on_error=False)
    nb.until(lambda: typo.idle or any("Waiting" in d.get("text/plain", "") for d in typo.displays))
    assert typo.idle
    assert "NameError" in nb.finish(typo).error[-1]
    nb.ok("def later(): return defined_by_a_later_cell")
    assert runs["shown"].state not in FINAL
    gate.open()
    assert nb.ok("answer").result == "42"


HOLDERS = {
    "an attribute of an attribute": "exp.predict()",
    "a list in dictionaries": "zoo['a']['b'][0](ones)",
    "a closure": "closure(ones)",
    "a partial function": "partial(ones)",
    "a bound method": "forward(ones)",
    "a generator": "next(generator)(ones)",
    "a weak reference": "weak()(ones)",
    "a part of it": "torch.nn.functional.linear(ones, weight, bias)",
    "a view of its memory": "ones @ torch.from_numpy(array).T + torch.from_numpy(array_of_bias)",
    "a default argument": "by_default(ones)",
    "an attribute of a class": "Held.model(ones)",
    "a module": "holder.model(ones)",
    "a function of a module": "holder.apply(ones)",
    "an optimizer": "sum(p.sum() for p in optimizer.param_groups[0]['params'])",
}

HELD = """
import functools, sys, types, weakref
from pathlib import Path
class Trainer:
    def __init__(self, m): self.model = m
class Experiment:
    def __init__(self, t): self.trainer = t
    def predict(self): return self.trainer.model(ones)
class Held: model = model
ones = torch.ones(1, 4)
exp, zoo = Experiment(Trainer(model)), {"a": {"b": [model]}}
def close(m): return lambda x: m(x)
closure, partial, forward, weak = close(model), functools.partial(model), model.forward, weakref.ref(model)
generator = (m for m in [model])
weight, bias = model.weight, model.bias
array, array_of_bias = model.weight.detach().numpy()[:], model.bias.detach().numpy()
def by_default(x, m=model): return m(x)
Path("holder.py").write_text("def apply(x): return model(x)\\n")
sys.modules.pop("holder", None)
import holder
holder.model = model
"""


@pytest.mark.parametrize("reader", HOLDERS.values(), ids=HOLDERS)
def test_whatever_holds_what_a_run_changes_who_reads_it_waits(nb: Kernel, gate: Gate, reader: str) -> None:
    nb.ok(HELD)
    nb.ok(f"%%train --name held\n{gate.wait}\nsteps(model, optimizer)\n")
    reading = nb.send(f"early = float({reader})")
    nb.until_waiting(reading)
    gate.open()
    nb.finish(reading)
    assert nb.ok("generator = (m for m in [model])\nfloat(" + reader + ") == early").result == "True"


def test_modules_that_a_cell_imports_are_there_at_once_and_nobody_waits_for_them(nb: Kernel, gate: Gate) -> None:
    nb.ok(
        "%%train --name imports\nimport time, json\nimport numpy as np\nfrom math import *\nfrom pathlib import Path\n"
        f"from string import digits as of_ten\n{gate.wait}\nanswer = 42\n"
    )
    assert nb.ok("time.time() > 0, np.arange(3).sum(), json.dumps(1), floor(1.5), of_ten[0], Path('x').name").result
    assert runs["imports"].state not in FINAL
    gate.open()
    assert nb.ok("answer").result == "42"


def test_who_reads_nothing_that_a_run_changes_does_not_wait(nb: Kernel, gate: Gate) -> None:
    nb.ok("other, notes, sizes = torch.nn.Linear(4, 1), ['x'], [[n] * 5 for n in range(100_000)]\nclass Empty: pass")
    nb.ok(f"%%train --name alone\n{gate.wait}\nsteps(model, optimizer)\n")
    nb.ok(
        "other(data).sum(), notes, len(sizes), Empty(), 'model' in notes, f'{notes}'\nif __name__ == '__main__': pass"
    )
    nb.ok("dir = 'x'\nvars(Empty()), dir, eval('notes'), exec('x_ = 1'), (lambda: locals())()")
    nb.ok("'other' in globals(), globals().get('notes'), steps.__name__, get_ipython().user_ns['notes']")
    assert runs["alone"].state not in FINAL


OPAQUE = {
    "attributes": "def __getattr__(self, name): raise RuntimeError('no')",
    "the class": "__class__ = property(lambda self: 1 / 0)",
}


@pytest.mark.parametrize("nasty", OPAQUE.values(), ids=OPAQUE)
def test_an_object_that_can_not_be_looked_into_switches_no_waiting_off(nb: Kernel, gate: Gate, nasty: str) -> None:
    nb.ok(f"class Nasty:\n    def __call__(self): return 1\n    {nasty}\nnasty = Nasty()")
    for answer in (42, 43):
        nb.ok(f"%%train --name nasty\nanswer = {answer}\n")
        assert nb.ok("nasty()\nanswer").result == str(answer)
    assert nb.look("len(get_ipython().ast_transformers)") == "1"


def test_the_waiting_is_told_under_the_cell_and_then_how_long_it_was(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name told\n{gate.wait}\nanswer = 42\n")
    reading = nb.send("answer")
    nb.until_waiting(reading)
    assert "Waiting for run told: " in reading.text
    gate.open()
    nb.finish(reading)
    assert "Waiting for" not in reading.text
    assert "for run told (succeeded)" in reading.text


def test_a_train_cell_that_reads_a_result_waits_and_trains_on(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name one\nsteps(model, optimizer)\nafter_one = model.weight.detach().clone()\n{gate.wait}\n")
    second = nb.send("%%train --name two\nbefore_two = model.weight.detach().clone()\nsteps(model, optimizer)\n")
    nb.until_waiting(second)
    gate.open()
    assert nb.finish(second).status == "ok", second.text
    assert (
        nb.ok("bool((before_two == after_one).all()), bool((model.weight == after_one).all())").result
        == "(True, False)"
    )


def test_overwriting_a_pending_name_drops_the_claim(nb: Kernel, gate: Gate) -> None:
    nb.ok("answer = same = other = 'old'")
    nb.ok(f"%%train --name over\n{gate.wait}\nanswer = same = third = 42\n")
    nb.ok("answer = 'mine'")
    nb.ok("same = 'old'  # the very object it was")
    assert nb.ok("answer, same").result == "('mine', 'old')"
    assert runs["over"].state not in FINAL
    gate.open()
    assert nb.ok("third, answer, same").result == "(42, 'mine', 'old')"


def test_a_cell_that_only_might_overwrite_a_name_does_not_drop_the_claim(nb: Kernel, gate: Gate) -> None:
    nb.ok("answer = 'old'")
    nb.ok(f"%%train --name might\n{gate.wait}\nanswer = 42\n")
    nb.ok("if time is None:\n    answer = 'never'")
    assert nb.run("1 / 0\nanswer = 'not reached'").status == "error"
    gate.open()
    assert nb.ok("answer").result == "42"


def test_what_a_cell_gives_by_other_means_than_assignment_counts_too(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name means\n{gate.wait}\nanswer = other = 42\n")
    nb.ok("globals()['answer'] = 'mine'")
    gate.open()
    assert nb.ok("other, answer").result == "(42, 'mine')"


def test_of_two_runs_that_bring_a_name_the_later_wins(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name early\n{gate.wait}\nanswer, only_early = 'early', 1\n")
    nb.ok("%%train --name late\nanswer = 'late'\n")
    assert nb.ok("answer").result == "'late'"
    assert runs["early"].state not in FINAL
    gate.open()
    assert nb.ok("only_early, answer").result == "(1, 'late')"


def test_what_has_come_is_bound_before_the_next_cell_even_unread(nb: Kernel) -> None:
    nb.ok("%%train --name came\nanswer = 42\n")
    runs["came"].wait()
    nb.ok("pass")
    assert nb.look("answer") == "42"


def test_wait_returns_when_the_run_has_ended(nb: Kernel) -> None:
    cell = nb.ok("%%train --name waited --wait\nprint('nothing to bring')\n")
    assert cell.run["state"] == "succeeded"
    failed = nb.run("%%train --name waited --wait\nraise RuntimeError('as meant')\n")
    assert failed.message.endswith("RuntimeError: as meant. Your session is unchanged.")


def test_interrupting_the_waiting_leaves_the_run(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name long\n{gate.wait}\nanswer = 42\n")
    reading = nb.send("answer", stop_on_error=False)
    nb.until_waiting(reading)
    nb.interrupt()
    nb.finish(reading)
    assert reading.message == (
        "mlnb: Stopped waiting; long is still running. Run this cell again to wait, or "
        "call mlnb.runs['long'].cancel() to end it."
    )
    assert "\n" not in reading.message
    assert runs["long"].state not in FINAL
    assert "Waiting for" not in "".join(d["text/plain"] for d in reading.displays)
    gate.open()
    assert nb.ok("answer").result == "42"
    assert runs["long"].state == "succeeded"


FAILURES = {
    "an exception": ("raise RuntimeError('as meant')", " in cell [{}], line 6: RuntimeError: as meant"),
    "an exit": ("import sys; sys.exit(3)", ": the script called sys.exit(3)"),
    "a kill": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ": rank 0 was killed by SIGKILL"),
}


@pytest.mark.parametrize(("end", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_failed_run_changes_nothing_and_stops_the_next_reader_once(nb: Kernel, end: str, reason: str) -> None:
    nb.ok("answer, notes = 'old', ['old']\nweight = model.weight.detach().clone()")
    cell = nb.ok(
        f"%%train --name failing\nsteps(model, optimizer)\nanswer, brand_new = 42, 1\n\nnotes.append(1)\n{end}\n"
    )
    assert nb.run("answer").message == (
        f"mlnb: Run failing failed{reason.format(cell.count)}. Your session is unchanged. "
        "Run this cell again to continue with the old answer."
    )
    assert nb.ok("answer, notes, bool((model.weight == weight).all()), 'brand_new' in globals()").result == (
        "('old', ['old'], True, False)"
    )


def test_of_a_failed_run_s_new_names_it_is_said_that_there_are_none(nb: Kernel) -> None:
    nb.ok("%%train --name newborn\nfresh = 1 / 0\n")
    assert nb.run("fresh").message.endswith("Your session is unchanged. fresh is still not defined.")


def test_a_run_cancelled_in_the_session_changes_nothing_and_says_so(nb: Kernel, gate: Gate) -> None:
    nb.ok("answer = 'old'")
    nb.ok(f"%%train --name stopped\nanswer = 42\n{gate.wait}\n")
    nb.ok("mlnb.runs['stopped'].cancel()")
    reading = nb.ok("answer")
    assert reading.result == "'old'"
    assert reading.out == "mlnb: Run stopped was cancelled. answer is unchanged.\n"


def test_a_run_cancelled_elsewhere_stops_the_cell_that_reads_it(nb: Kernel, gate: Gate) -> None:
    nb.ok("answer = 'old'")
    nb.ok(f"%%train --name stopped\nanswer = 42\n{gate.wait}\n")
    runs["stopped"].cancel()
    assert "mlnb: Run stopped was cancelled: stopped by you. " in nb.run("answer").message
    assert nb.ok("answer").result == "'old'"


def test_a_failed_run_does_not_stop_cells_that_read_none_of_it(nb: Kernel) -> None:
    nb.ok("%%train --name quiet\nanswer = 1 / 0\n")
    runs["quiet"].wait()
    assert nb.ok("1 + 1").result == "2"


def test_a_run_that_brings_nothing_stops_no_cell(nb: Kernel) -> None:
    nb.ok("%%train --name silent\nprint('hello')\n")
    runs["silent"].wait()
    assert nb.ok("1 + 1").result == "2"


def test_who_reads_a_model_waits_for_a_cell_that_only_steps_its_optimizer(nb: Kernel, gate: Gate) -> None:
    nb.ok(
        "import torch\nnet = torch.nn.Linear(1, 1)\nadam = torch.optim.SGD(net.parameters(), lr=1.0, weight_decay=0.5)"
    )
    nb.ok("for p in net.parameters():\n    p.data.fill_(1.0)\n    p.grad = None\nbefore = 1.0")
    nb.ok(
        f"%%train --name stepped\n{gate.wait}\n"
        "for group in adam.param_groups:\n    for p in group['params']:\n        p.grad = torch.zeros_like(p)\n"
        "adam.step()\n"
    )
    reading = nb.send("print(net.weight.item())")
    nb.until_waiting(reading)
    gate.open()
    assert nb.finish(reading).out.strip() == "0.5"


def test_a_lambda_inside_an_object_comes_back_as_itself(nb: Kernel) -> None:
    nb.ok("box = {'double': lambda x: 2 * x, 'n': 0}\ndouble = box['double']")
    nb.ok("%%train --name boxed\nbox['n'] = box['double'](21)\n")
    assert nb.ok("print(box['n'], box['double'] is double)").out.split() == ["42", "True"]


BREAKS = """
from mlnb.api import Run as _Run
_deliver = _Run.deliver
def _failing(self, *arguments):
    if _failures:
        raise _failures.pop()
    return _deliver(self, *arguments)
_Run.deliver, _failures = _failing, [{error}]
"""

ERRORS = {
    "a full disk": ("OSError(28, 'No space left on device')", "OSError: [Errno 28] No space left on device"),
    "a stale file": ("OSError(116, 'Stale file handle')", "OSError: [Errno 116] Stale file handle"),
    "our own": ("mlnb.errors.NotTrusted('It belongs to another.')", "It belongs to another"),
    "any": ("RuntimeError('odd')", "RuntimeError: odd"),
}


@pytest.mark.parametrize(("error", "words"), ERRORS.values(), ids=ERRORS)
def test_results_that_can_not_be_loaded_stay_expected(nb: Kernel, gate: Gate, error: str, words: str) -> None:
    nb.ok("answer = 'old'\nimport mlnb.errors")
    nb.ok(f"%%train --name unloaded\n{gate.wait}\nanswer = 42\n")
    nb.ok(BREAKS.format(error=error))
    gate.open()
    assert nb.run("answer").message.startswith(
        f"mlnb: The results of run unloaded can't be loaded now: {words}. Run this cell again to try again"
    )
    assert nb.ok("answer").result == "42"
    nb.ok("_Run.deliver = _deliver")


def test_a_cell_that_reads_other_things_runs_although_results_can_not_be_loaded(nb: Kernel) -> None:
    nb.ok("%%train --name unread\nanswer = 42\n")
    nb.ok(BREAKS.format(error="OSError(28, 'No space left on device'), OSError(28, 'No space left on device')"))
    runs["unread"].wait()
    said = nb.ok("1 + 1")
    assert said.result == "2"
    assert "The results of run unread can't be loaded now" in said.out
    assert nb.ok("1 + 1").out == "", "told once"
    assert nb.ok("_Run.deliver = _deliver\n1 + 1").result == "2"
    assert nb.look("answer") == "42"


def test_an_interrupt_while_results_are_loaded_leaves_them_expected(nb: Kernel) -> None:
    nb.ok("%%train --name interrupted\nanswer = 42\n")
    nb.ok(BREAKS.format(error="KeyboardInterrupt()"))
    assert nb.run("answer").message == (
        "mlnb: Stopped loading the results of interrupted. Run this cell again to load them."
    )
    assert nb.ok("answer").result == "42"
    nb.ok("_Run.deliver = _deliver")


def test_results_that_were_removed_are_given_up(nb: Kernel) -> None:
    nb.ok("answer = 'old'")
    nb.ok("%%train --name removed\nanswer = 42\n")
    runs["removed"].wait().remove()
    cell = nb.run("answer")
    assert cell.status == "ok" or "removed" in cell.message
    assert nb.ok("answer").result == "'old'"


def test_a_run_that_is_removed_while_a_cell_waits_for_it_is_waited_for_no_longer(nb: Kernel, gate: Gate) -> None:
    nb.ok("answer = 'old'")
    nb.ok(f"%%train --name vanishing\n{gate.wait}\nanswer = 42\n")
    reading = nb.send("answer")
    nb.until_waiting(reading)
    shutil.rmtree(runs["vanishing"].dir)
    assert nb.finish(reading).result == "'old'"
    assert "Run vanishing was removed before its results were loaded" in reading.text


def test_a_state_that_can_not_be_read_for_a_while_is_waited_for(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name unseen\n{gate.wait}\nanswer = 42\n")
    nb.ok("from mlnb.targets.local import Local as _Local\n_poll, _times = _Local.poll, [1] * 5")
    nb.ok(
        "def _stale(self, runs):\n    if _times:\n        _times.pop()\n"
        "        raise OSError(116, 'Stale file handle')\n    return _poll(self, runs)\n_Local.poll = _stale"
    )
    reading = nb.send("answer")
    gate.open()
    assert nb.finish(reading).result == "42", reading.text
    nb.ok("_Local.poll = _poll")


def test_a_search_that_fails_waits_for_all_and_stays(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name searched\n{gate.wait}\nanswer = 42\n")
    nb.ok(
        "import mlnb.notebook.waiting.pending as _p\n_reach = _p.reads_of\n"
        "def _none(*_): raise RuntimeError('no')\n_p.reads_of = _none"
    )
    reading = nb.send("print('nothing of it')")
    nb.until_waiting(reading)
    gate.open()
    assert nb.finish(reading).status == "ok", reading.text
    nb.ok("_p.reads_of = _reach")
    assert nb.look("len(get_ipython().ast_transformers)") == "1"


def test_a_dry_run_of_a_resumption_changes_nothing(nb: Kernel, gate: Gate) -> None:
    train = f"for epoch in mlnb.epochs(2, model=model):\n    if epoch == 1:\n        {gate.wait}\nanswer = 42\n"
    nb.ok(f"%%train --name dry\n{train}")
    nb.until(lambda: len(runs["dry"].checkpoints()) == 1)
    runs["dry"].cancel()
    nb.ok(f"%%train --resume dry --dry-run\n{train}")
    assert "Run dry was cancelled" in nb.run("answer").message


def test_a_run_that_this_session_cancelled_stops_no_cell_and_can_be_resumed(nb: Kernel, gate: Gate) -> None:
    nb.ok("import torch\nlayer = torch.nn.Linear(1, 1)\nweight = layer.weight\nlayer.weight.data.fill_(1.0)")
    train = (
        "for epoch in mlnb.epochs(3, layer=layer):\n"
        f"    if epoch == 2:\n        {gate.wait.strip()}\n"
        "    layer.weight.data.add_(1.0)\n"
    )
    first = nb.ok(f"%%train --name steps\n{train}")
    nb.until(lambda: len(runs["steps"].checkpoints()) == 2)
    assert nb.ok("mlnb.runs['steps'].cancel().state").result == "'cancelled'"
    nb.until(lambda: first.run["state"] == "cancelled")
    assert nb.ok("print(layer.weight.item())").out.split()[-1] == "1.0"
    gate.open()
    second = nb.ok(f"%%train --resume steps --time 30m\n{train}")
    assert nb.ok("print(layer.weight.item(), layer.weight is weight)").out.split() == ["4.0", "True"]
    assert runs["steps"].attempts == 2
    assert runs["steps"].task.resources.time == 1800
    nb.until(lambda: first.run["state"] == second.run["state"] == "succeeded")  # views of a run id, not of an attempt
