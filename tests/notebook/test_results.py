"""After a run the session is as if the cell had run here."""

from __future__ import annotations

import torch

from mlnb.api import runs
from tests.notebook.kernels import Kernel


def train(nb: Kernel, cell: str, options: str = "") -> None:
    """Run a cell as a run to its end, and bind what it brings."""
    nb.ok(f"%%train --wait {options}\n{cell}\n")


def test_a_module_is_updated_in_place(nb: Kernel) -> None:
    nb.ok(
        "alias = model\nweight = model.weight\nholder = {'net': model, 'parameters': list(model.parameters())}\n"
        "identity = id(model), id(model.weight), id(model.bias)\nold = model.weight.detach().clone()"
    )
    train(nb, "steps(model, optimizer)\ntrained = model.weight.detach().clone()")
    assert nb.ok("identity == (id(model), id(model.weight), id(model.bias))").result == "True"
    assert nb.ok("alias is model, holder['net'] is model, weight is model.weight").result == "(True, True, True)"
    assert nb.ok("bool((weight == trained).all()), bool((weight == old).all())").result == "(True, False)"


def test_the_weights_are_those_of_training_here(nb: Kernel) -> None:
    nb.ok(
        "import copy\nhere = copy.deepcopy(model)\n"
        "own = torch.optim.Adam(here.parameters(), lr=0.1)\nthere = torch.optim.Adam(model.parameters(), lr=0.1)"
    )
    nb.ok("steps(here, own)")
    train(nb, "steps(model, there)")
    assert nb.ok("torch.equal(here.weight, model.weight)").result == "True"
    nb.ok("steps(here, own); steps(model, there)  # needs the optimizer's state")
    assert nb.ok("torch.equal(here.weight, model.weight)").result == "True"


def test_an_optimizer_made_in_the_cell_holds_the_session_s_parameters(nb: Kernel) -> None:
    train(nb, "fresh = torch.optim.Adam(model.parameters(), lr=0.1)\nsteps(model, fresh)")
    assert nb.ok("fresh.param_groups[0]['params'][0] is model.weight").result == "True"
    assert nb.ok("model.weight in fresh.state, int(fresh.state[model.weight]['step'])").result == "(True, 5)"
    nb.ok("before = model.weight.detach().clone(); steps(model, fresh, 1)")
    assert nb.ok("bool((before == model.weight).all()), int(fresh.state[model.weight]['step'])").result == "(False, 6)"


def test_a_scheduler_stays_tied_to_its_optimizer(nb: Kernel) -> None:
    nb.ok("scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)")
    train(nb, "steps(model, optimizer)\nscheduler.step()")
    assert nb.ok("scheduler.optimizer is optimizer, optimizer.param_groups[0]['lr']").result == "(True, 0.05)"
    assert nb.ok("optimizer.param_groups[0]['params'][0] is model.weight").result == "True"
    nb.ok("optimizer.step(); scheduler.step()")
    assert nb.ok("optimizer.param_groups[0]['lr'], scheduler.last_epoch").result == "(0.025, 2)"


def test_a_model_made_in_the_cell_works_here(nb: Kernel) -> None:
    train(
        nb,
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.inner = nn.Linear(4, 1)\n"
        "    def forward(self, x):\n"
        "        return self.inner(x)\n"
        "net = Net()\n"
        "net_optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "final = steps(net, net_optimizer)\n",
    )
    assert nb.ok("isinstance(net, Net), Net.__module__").result == "(True, '__main__')"
    assert nb.ok("steps(net, net_optimizer) < final").result == "True"


def test_containers_change_in_place(nb: Kernel) -> None:
    nb.ok("notes, table, seen = [0], {'a': 1}, {1}\nsame = notes, table, seen\nsettings = {'inner': notes}")
    train(nb, "notes.append(1)\ntable['b'] = 2\nseen.add(2)")
    assert nb.ok("notes, table, seen").result == "([0, 1], {'a': 1, 'b': 2}, {1, 2})"
    assert nb.ok("same[0] is notes, same[1] is table, same[2] is seen, settings['inner']").result == (
        "(True, True, True, [0, 1])"
    )


def test_counters_and_deletions(nb: Kernel) -> None:
    nb.ok("total, gone = 1, 'here'")
    train(nb, "total += 1\ndel gone\nshort = 1\ndel short")
    assert nb.ok("total, 'gone' in globals(), 'short' in globals()").result == "(2, False, False)"


def test_what_the_cell_might_have_bound_but_did_not_stays(nb: Kernel) -> None:
    nb.ok("best = 'old'")
    train(nb, "accuracy = 0.5\nif accuracy > 0.9:\n    best = 'new'\n    never = 1")
    assert nb.ok("best, accuracy, 'never' in globals()").result == "('old', 0.5, False)"


def test_definitions_and_imports_are_usable_afterwards(nb: Kernel) -> None:
    nb.ok("base = 10")
    train(
        nb,
        "import json as js\nfrom math import floor\nimport os.path\n"
        "def add(x, y=base):\n    return x + y + offset\n"
        "twice = lambda x: 2 * x\n"
        "class Point:\n    def __init__(self, x):\n        self.x = x\n"
        "offset = 100\npoint = Point(3)\n",
    )
    assert nb.ok("add(1), twice(4), floor(2.5), js.dumps([1]), os.path.basename('a/b')").result == (
        "(111, 8, 2, '[1]', 'b')"
    )
    assert nb.ok("point.x, isinstance(point, Point)").result == "(3, True)"
    nb.ok("offset = 0")
    assert nb.ok("add(1)").result == "11", "a function's globals are the session's"


def test_loop_variables_and_walrus_and_with_come_back(nb: Kernel) -> None:
    train(
        nb,
        "for epoch, (a, *rest) in enumerate([(1, 2, 3)]): pass\n"
        "squares = [last := x * x for x in range(4)]\n"
        "with torch.no_grad() as nothing:\n    inside = 1",
    )
    assert nb.ok("epoch, a, rest, last, squares, inside").result == "(0, 1, [2, 3], 9, [0, 1, 4, 9], 1)"


def test_numpy_and_pandas_and_tensors_come_back(nb: Kernel) -> None:
    nb.ok("import numpy as np, pandas as pd\narray = np.zeros(3)\nframe = pd.DataFrame({'a': [1, 2]})\nsame = array")
    train(nb, "array[1] = 5\nframe['b'] = frame.a * 2\nrow = frame.iloc[0]\nloss = (model(data) ** 2).mean()")
    assert nb.ok("array.tolist(), same is array, frame.b.tolist(), row.to_dict()").result == (
        "([0.0, 5.0, 0.0], True, [2, 4], {'a': 1, 'b': 2})"
    )
    assert nb.ok("loss.ndim, loss.item() > 0").result == "(0, True)"


def test_the_last_expression_is_in_the_logs_and_figures_are_kept(nb: Kernel) -> None:
    train(
        nb,
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nplt.plot([2, 1])\nprint('printed')\n6 * 7",
        "--name showing",
    )
    run = runs["showing"]
    assert run.logs().splitlines() == ["printed", "42"]
    assert len(run.figures()) == 2
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in run.figures())


def test_a_value_that_cannot_be_returned_is_noted_and_the_others_are_returned(nb: Kernel) -> None:
    cell = nb.ok("%%train --wait\nopened = open('/dev/null')\nanswer = 42\n")
    note = "opened was not returned: it can't be copied between processes ("
    assert f"mlnb: {note}" in cell.out
    assert note in cell.view["text/plain"]
    assert note in cell.view["text/html"].replace("&#x27;", "'")
    assert nb.ok("answer, 'opened' in globals()").result == "(42, False)"


def test_out_brings_only_what_it_names(nb: Kernel) -> None:
    train(nb, "answer, other = 42, 43", "--out answer")
    assert nb.ok("answer, 'other' in globals()").result == "(42, False)"


def test_in_takes_a_file_along(nb: Kernel) -> None:
    (nb.cwd / "numbers.txt").write_text("1 2 3")
    train(nb, "numbers = Path('numbers.txt').read_text().split()", "--in numbers.txt --name filed")
    assert nb.ok("numbers").result == "['1', '2', '3']"


def test_a_cell_draws_the_numbers_that_the_session_would_draw(nb: Kernel) -> None:
    cell = "drawn = torch.rand(2).tolist(), np.random.rand(), random.random()"
    nb.ok("import random, numpy as np\ntorch.manual_seed(7); np.random.seed(7); random.seed(7)")
    nb.ok(cell)
    nb.ok("first = drawn\n" + cell)
    nb.ok("torch.manual_seed(7); np.random.seed(7); random.seed(7)\nsecond = drawn")
    train(nb, cell)
    assert nb.ok("drawn == first").result == "True"
    nb.ok(cell)
    assert nb.ok("drawn == second").result == "True"
    train(nb, cell, "--seed 3")
    torch.manual_seed(3)
    assert nb.ok("drawn[0]").result == str(torch.rand(2).tolist())


def test_settings_and_variables_travel_and_come_back(nb: Kernel) -> None:
    nb.ok("import os, warnings, numpy as np\nos.environ['MY_CHOICE'] = 'here'; np.seterr(all='raise')")
    nb.ok("warnings.simplefilter('error', RuntimeWarning)")
    nb.ok("import logging, pandas as pd\nlogging.getLogger('mine').setLevel('ERROR')")
    train(
        nb,
        "level = logging.getLogger('mine').level\nlogging.getLogger('mine').setLevel('DEBUG')\n"
        "pd.options.display.max_rows = 7\n"
        "seen = os.environ['MY_CHOICE'], np.geterr()['over'], warnings.filters[0][0]\n"
        "os.environ['MY_CHOICE'] = 'there'; torch.set_default_dtype(torch.float64); warnings.simplefilter('ignore')",
    )
    assert nb.ok("seen").result == "('here', 'raise', 'error')"
    assert nb.ok("level, logging.getLogger('mine').level, pd.options.display.max_rows").result == "(40, 10, 7)"
    state = nb.ok("os.environ['MY_CHOICE'], torch.get_default_dtype(), warnings.filters[0][0]").result
    assert state == "('there', torch.float64, 'ignore')"


def test_functions_of_a_cell_that_awaits_come_back(nb: Kernel) -> None:
    train(nb, "async def twice(x): return x * 2\ndoubled = await twice(3)\nspent = %timeit -o -q -n 2 -r 1 doubled + 1")
    assert nb.ok("doubled, await twice(4), spent.loops").result == "(6, 8, 2)"


def test_the_folder_and_the_import_path_of_the_cell_are_the_session_s(nb: Kernel) -> None:
    (nb.cwd / "inner").mkdir()
    (nb.cwd / "inner" / "found_below.py").write_text("VALUE = 5\n")
    train(
        nb,
        "import os, sys\nsys.path.insert(0, os.path.abspath('inner'))\nos.chdir('inner')\nimport found_below\n"
        "read = found_below.VALUE",
    )
    assert nb.ok("os.listdir()[0][:11], read").result == "('found_below', 5)"
    assert nb.ok("found_below.VALUE").result == "5"
    nb.ok("os.chdir('..'); del sys.path[0]")


def test_a_local_module_has_the_session_s_values_and_keeps_the_cell_s(nb: Kernel) -> None:
    (nb.cwd / "shared_settings.py").write_text(
        "STEPS = 1\nclass C:\n    def __init__(self): self.lr = 0.1; self.seen = []\nCFG = C()\nREG = {}\n"
        "def lr(): return CFG.lr\ndef register(name): REG[name] = 1\n"
    )
    nb.ok(
        "import shared_settings as cfg\nfrom shared_settings import CFG, lr\n"
        "CFG.lr = 0.2; cfg.STEPS = 3; held = cfg.REG"
    )
    train(nb, "before = lr(), cfg.STEPS\nCFG.lr = 0.5; CFG.seen.append(1); cfg.STEPS = 4; cfg.register('k')")
    assert nb.ok("before").result == "(0.2, 3)"
    assert nb.ok("lr(), CFG.seen, cfg.STEPS, held, cfg.CFG is CFG, cfg.REG is held").result == (
        "(0.5, [1], 4, {'k': 1}, True, True)"
    )


def test_runs_that_are_submitted_together_draw_different_numbers(nb: Kernel) -> None:
    nb.ok("%%train\nimport time; time.sleep(1)\none = torch.rand(()).item()\n")
    plan = nb.ok("%%train\ntwo = torch.rand(()).item()\n")
    assert "random numbers are other than in this session" in plan.text
    assert nb.ok("one != two").result == "True"


def test_several_ranks_bring_the_result_of_the_first(nb: Kernel) -> None:
    train(nb, "import os\nworld, rank = os.environ['WORLD_SIZE'], os.environ['RANK']", "--ranks 2")
    assert nb.ok("world, rank").result == "('2', '0')"


def test_an_exception_has_the_cell_s_own_lines(nb: Kernel) -> None:
    nb.ok("def helper(x):\n    return 1 / x")
    defined = nb.ok("1").count or 0
    cell = nb.ok("%%train --name lines\nx = 1\n\nfor k in range(3):\n    helper(1 - k)\n")
    run = runs["lines"].wait()
    nb.until(lambda: cell.run["state"] == "failed")
    assert run.reason == f"rank 0 in cell [{defined - 1}], line 2: ZeroDivisionError: division by zero"
    text = run.result["error"]["text"] if run.result else ""
    assert f'File "cell [{cell.count}]", line 5, in <module>\n    helper(1 - k)\n' in text
    assert f'File "cell [{defined - 1}]", line 2, in helper\n    return 1 / x\n' in text
    assert "mlnb" not in text
    assert "script.py" not in text
    assert text in cell.view["text/plain"] + "\n"
    assert "line 5, in &lt;module&gt;" in cell.view["text/html"]


def test_functions_and_classes_that_the_cell_makes_in_functions(nb: Kernel) -> None:
    train(
        nb,
        "def counter():\n    n = 0\n    def more():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return more\n"
        "def build(width):\n    class Inner(nn.Linear):\n"
        "        def forward(self, x): return super().forward(x) + width\n"
        "    return Inner(4, width)\n"
        "more, own = counter(), build(3)\nmore()\nparts = {'more': more, 'act': nn.functional.relu}\n"
        "halving = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5 ** epoch)\n"
        "optimizer.step(); halving.step()",
    )
    assert nb.ok("more(), parts['more'] is more, parts['act'] is nn.functional.relu").result == "(2, True, True)"
    assert nb.ok("own(data).shape, type(own).__name__").result == "(torch.Size([32, 3]), 'Inner')"
    assert nb.ok("halving.optimizer is optimizer, halving.get_last_lr(), counter()()").result == "(True, [0.05], 1)"
    assert nb.ok("import inspect; inspect.getsource(build).split()[:2]").result == "['def', 'build(width):']"
    train(nb, "again = more(), own(data).shape")
    assert nb.ok("again").result == "(3, torch.Size([32, 3]))"


def test_hooks_of_the_session_are_those_of_the_session_after_the_run(nb: Kernel) -> None:
    nb.ok(
        "seen = {}\ndef keep(name):\n    def hook(module, args, out): seen[name] = out.detach()\n    return hook\n"
        "hook = keep('first')\nhandle = model.register_forward_hook(hook)\n"
        "second = model.register_forward_hook(keep('second'))\nhooks = list(model._forward_hooks.values())"
    )
    train(nb, "steps(model, optimizer)")
    assert nb.ok("sorted(seen), all(a is b for a, b in zip(hooks, model._forward_hooks.values()))").result == (
        "(['first', 'second'], True)"
    )
    assert nb.ok("model(data[:1]).shape, seen['second'].shape").result == "(torch.Size([1, 1]), torch.Size([1, 1]))"


def test_code_of_exec_is_sent_as_source_which_inspect_finds_in_the_run(nb: Kernel) -> None:
    nb.ok("text = 'def twice(x: int) -> int:\\n    return x * 2\\n'\nexec(text)")
    train(nb, "import inspect\nsource, result = inspect.getsource(twice), torch.jit.script(twice)(4)")
    assert nb.ok("source == text, result, twice(1)").result == "(True, 8, 2)"


def test_gradients_hooks_and_files_are_as_the_cell_left_them(nb: Kernel) -> None:
    nb.ok(
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\n"
        "log = open('steps.txt', 'w')\nlog.write('begin\\n')\nhandle = model.weight.register_hook(lambda g: g * 0)"
    )
    train(
        nb,
        "before = model.weight.detach().clone()\nsteps(model, optimizer)\nkept = bool((before == model.weight).all())\n"
        "norm = model.bias.grad.norm().item()\nlog.write('there\\n')\nanswer = pool.submit(len, 'ab').result()",
    )
    assert nb.ok("kept, model.bias.grad.norm().item() == norm, answer").result == "(True, True, 2)"
    nb.ok("log.write('end\\n'); log.close(); handle.remove()\nold = model.weight.clone(); steps(model, optimizer)")
    assert nb.ok("open('steps.txt').read().split(), bool((old == model.weight).all())").result == (
        "(['begin', 'there', 'end'], False)"
    )
    assert nb.ok("pool.submit(len, 'abc').result()").result == "3"


_STATE = """
class Tracker:
    best, history, table = None, [], {'a': [1]}
    @classmethod
    def see(cls, value):
        cls.history.append(value)
        cls.best = value if cls.best is None else min(cls.best, value)
        cls.table['a'].append(value)
def counter():
    n, log = 0, []
    def more():
        nonlocal n
        n += 1
        log.append(n)
        return n
    return more
def note(x, log=[], *, seen={}):
    log.append(x)
    seen[x] = True
    note.calls = getattr(note, 'calls', 0) + 1
    return log
import functools
def counted(f):
    @functools.wraps(f)
    def call(*args):
        call.count += 1
        return f(*args)
    call.count = 0
    return call
@counted
def work(x, done=[]):
    done.append(x)
    return done
more, history, inner = counter(), Tracker.history, Tracker.table['a']
more()
"""


def test_what_the_cell_changes_in_functions_and_classes_comes_back(nb: Kernel) -> None:
    nb.ok(_STATE)
    nb.ok("%%train --wait\nTracker.see(3.0); Tracker.see(2.0); more(); more(); note(1); note(2); work(7); work(8)")
    assert nb.ok("Tracker.best, Tracker.history, Tracker.history is history, inner").result == (
        "(2.0, [3.0, 2.0], True, [1, 3.0, 2.0])"
    )
    assert nb.ok("more(), more.__closure__[0].cell_contents").result == "(4, [1, 2, 3, 4])"
    assert nb.ok("note(3), note.calls, note.__kwdefaults__").result == (
        "([1, 2, 3], 3, {'seen': {1: True, 2: True, 3: True}})"
    )
    assert nb.ok("work.count, work(9), work.count").result == "(2, [7, 8, 9], 3)"


_METHODS = """
class Net(nn.Module):
    rate = 1
    def forward(self, x): return x
    def old(self): return 1
    def size(self): return 1
def double(self, x): return 2 * x
net = Net()
"""


def test_methods_and_properties_that_the_cell_gives_a_class_come_back(nb: Kernel) -> None:
    nb.ok(_METHODS)
    nb.ok(
        "%%train\nNet.extra = property(lambda self: self.rate + 41)\nNet.forward = double\nNet.more = 3\n"
        "Net.__len__ = lambda self: 7\ndel Net.old, Net.rate\ntime.sleep(1)\nNet.rate = 2"
    )
    assert nb.ok("Net.more, Net.extra, hasattr(Net, 'old')").result.startswith("(3, <property"), "it waits"
    assert nb.ok("net(5), net.extra, len(net), hasattr(net, 'old'), Net.forward is double, net.size()").result == (
        "(10, 43, 7, False, True, 1)"
    )


_DESCRIPTOR = """
class Clamp:
    sets = 0
    def __set_name__(self, owner, name): self.name = "_" + name
    def __get__(self, obj, kind=None): return self if obj is None else getattr(obj, self.name)
    def __set__(self, obj, value): self.sets += 1; setattr(obj, self.name, min(value, 1))
class Net:
    share = Clamp()
net, held = Net(), Net.share
net.share = 5
"""


def test_descriptors_of_a_class_count_on(nb: Kernel) -> None:
    nb.ok(_DESCRIPTOR)
    nb.ok("%%train --wait\nnet.share = 0.5; net.share = 7; share = net.share")
    assert nb.ok("share, net.share, Net.share.sets, Net.share is held").result == "(1, 1, 3, True)"


def test_a_function_of_the_cell_that_is_compiled_from_its_source(nb: Kernel) -> None:
    nb.ok("%%train --wait\n@torch.jit.script\ndef twice(x):\n    return x * 2\nthere = twice(torch.ones(1))")
    assert nb.ok("float(twice(there))").result == "4.0"


def test_cells_wait_for_the_state_of_a_class_that_the_run_changes(nb: Kernel) -> None:
    nb.ok(_STATE)
    nb.ok("%%train\ntime.sleep(1); Tracker.see(5.0)")
    assert nb.ok("Tracker.history, Tracker.best").result == "([5.0], 5.0)"
    nb.ok("class Net(nn.Linear):\n    width = 4\n    def forward(self, x): return super().forward(x) * self.width")
    nb.ok("%%train\nnet = Net(4, 1); time.sleep(1); done = net(data).shape")
    assert nb.ok("Net.width, mlnb.runs[0].state in ('succeeded', 'failed')").result == "(4, False)"
    assert nb.ok("done").result == "torch.Size([32, 1])"


def test_a_class_of_the_cell_has_the_state_that_the_cell_left_in_it(nb: Kernel) -> None:
    train(nb, "class Calls:\n    n, seen = 0, []\n    def add(self): Calls.n += 1; self.seen.append(1)\nCalls().add()")
    assert nb.ok("Calls().add(); Calls.n, Calls.seen").result == "(2, [1, 1])"


def test_what_the_cell_sets_in_a_local_module_comes_back(nb: Kernel) -> None:
    (nb.cwd / "grown_module.py").write_text("LR, GONE = 0.1, 1\nclass C:\n    width = 1\ndef f(): return LR\n")
    nb.ok("import grown_module as grown")
    train(
        nb,
        "import threading\ndef later(): return 5\nclass Later: pass\n"
        "grown.items, grown.call, grown.Kind, grown.f.calls = [1], later, Later, {'a': 1}\n"
        "grown.C.width = (2,)\ndel grown.GONE\ngrown.thread = threading.current_thread()",
    )
    assert nb.ok("grown.items, grown.call(), grown.Kind is Later, grown.f.calls, grown.C.width").result == (
        "([1], 5, True, {'a': 1}, (2,))"
    )
    assert nb.ok("grown.call is later, hasattr(grown, 'GONE'), hasattr(grown, 'thread')").result == (
        "(True, False, False)"
    )


def test_an_attribute_of_a_module_that_can_t_come_back_is_named(nb: Kernel) -> None:
    (nb.cwd / "partly_returned.py").write_text("KEPT = []\n")
    nb.ok("import partly_returned as partly")
    cell = nb.ok(
        "%%train --wait\nimport threading\npartly.thread = threading.current_thread(); partly.KEPT.append(1)\n"
    )
    assert "module attribute partly_returned.thread was not returned" in cell.text
    assert nb.ok("partly.KEPT").result == "[1]"


def test_a_local_module_that_the_cell_imports_first_keeps_what_it_sets(nb: Kernel) -> None:
    (nb.cwd / "star_module.py").write_text("aa = [1]\nclass C: pass\nCFG = C()\nCFG.lr = 1\n")
    (nb.cwd / "late_module.py").write_text("LR = 1\nSEEN = {}\ndef see(): SEEN['a'] = LR\n")
    nb.ok("%%train\nimport time; time.sleep(0.5)\nfrom star_module import *\naa.append(2)\n")
    assert nb.ok("aa").result == "[1, 2]"
    nb.ok("%%train\nimport time; time.sleep(0.5)\nimport late_module as late\nlate.LR = 3; late.see()\n")
    assert nb.ok("late.LR, late.SEEN").result == "(3, {'a': 3})"
    nb.ok("%%train\nimport time; time.sleep(0.5)\nfrom star_module import CFG\nCFG.lr = 2\n")
    assert nb.ok("import star_module; CFG.lr, star_module.CFG is CFG, star_module.aa").result == "(2, True, [1, 2])"


def test_the_name_of_an_exception_is_gone_after_its_handler(nb: Kernel) -> None:
    nb.ok("e, kept = object(), object()")
    train(nb, "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    pass\ntry: 1\nexcept ValueError as kept: pass")
    assert nb.ok("'e' in globals(), 'kept' in globals()").result == "(False, True)"
    plan = nb.ok("%%train --wait\ntry:\n    1 / 0\nexcept ZeroDivisionError as e:\n    pass\n").text
    assert "deletes" not in plan


def test_a_context_variable_and_a_counter_go_on(nb: Kernel) -> None:
    nb.ok("import contextvars, itertools\ncv = contextvars.ContextVar('cv'); ids = itertools.count(); next(ids)")
    train(nb, "cv.set(7)\ngiven = next(ids)")
    assert nb.ok("cv.get(), given, next(ids)").result == "(7, 1, 2)"


def test_a_weak_reference_of_the_session(nb: Kernel) -> None:
    nb.ok("import weakref\nclass Box: pass\nbox = Box(); box.n = 1; seen = weakref.ref(box)")
    train(nb, "seen().n += 1")
    assert nb.ok("box.n, seen() is box").result == "(2, True)"


def test_the_model_that_a_function_has_cached_is_the_one_that_is_trained(nb: Kernel) -> None:
    nb.ok(
        "import functools\n@functools.lru_cache\ndef get_model(size): return nn.Linear(size, 1)\n"
        "@functools.cache\ndef stamp(): return torch.rand(1).item()\n"
        "mine, old, first = get_model(4), get_model(4).weight.detach().clone(), stamp()"
    )
    nb.ok(
        "%%train\nassert get_model.cache_info().currsize == 1\nnet = get_model(4)\nseen = stamp()\n"
        "steps(net, torch.optim.SGD(net.parameters(), lr=0.1))\nnew = get_model(4).weight.detach().clone()\n"
        "other = get_model(2).weight.detach().clone()\n"
    )
    assert nb.ok("torch.equal(mine.weight, old)").result == "False"
    assert nb.ok("torch.equal(mine.weight, new), get_model(4) is mine, net is mine, seen == first").result == (
        "(True, True, True, True)"
    )
    assert nb.ok("torch.equal(get_model(2).weight, other), get_model.cache_info().currsize").result == "(True, 2)"


def test_a_function_of_the_cell_keeps_what_it_has_cached(nb: Kernel) -> None:
    train(
        nb,
        "import functools\n@functools.cache\ndef get_model(): return nn.Linear(4, 1)\n"
        "trained = get_model()\nsteps(trained, torch.optim.SGD(trained.parameters(), lr=0.1))",
    )
    assert nb.ok("get_model() is trained").result == "True"
