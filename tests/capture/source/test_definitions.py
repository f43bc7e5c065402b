"""Functions and classes of the notebook are sent as source, as they are now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlnb.capture import capture


def test_what_a_function_reads_is_sent_with_it(nb):
    nb.cell("import math")
    nb.cell("factor = 3")
    nb.cell("def area(r):\n    return math.pi * square(r) * factor")
    nb.cell("def square(x):\n    return x * x")
    script = nb.capture("result = area(2)").script
    assert "def area(r):\n    return math.pi * square(r) * factor" in script
    assert nb.train("result = area(2)")["result"] == nb["area"](2)


def test_the_live_definition_is_sent(nb):
    nb.cell("def f():\n    return 'old'")
    nb.cell("def g():\n    return f()")
    nb.cell("def f():\n    return 'new'")
    assert nb.train("result = g()")["result"] == "new"
    assert "'old'" not in nb.capture("result = g()").script


def test_definitions_of_a_cell_that_failed_before_them_are_ignored(nb):
    nb.cell("def f():\n    return 'good'")
    with pytest.raises(ZeroDivisionError):
        nb.cell("1 / 0\ndef f():\n    return 'never ran'")
    assert nb.train("result = f()")["result"] == "good"


def test_classes_inherit_across_cells(nb):
    nb.cell("class A:\n    def hi(self):\n        return 'A'")
    nb.cell("class B(A):\n    def hi(self):\n        return 'B' + super().hi()")
    nb.cell("class C(B):\n    pass")
    assert nb.train("result = C().hi()")["result"] == "BA"


def test_a_redefined_base_class_is_sent_as_it_is_now_with_a_note(nb):
    nb.cell("class A:\n    word = 'old'")
    nb.cell("class B(A):\n    pass")
    nb.cell("class A:\n    word = 'new'")
    captured = nb.capture("result = B.word")
    assert nb.execute(captured)["result"] == "new"
    assert any("B was defined with an earlier A" in note for note in captured.notes)


def test_an_instance_of_an_earlier_definition_gets_the_current_one_with_a_note(nb):
    nb.cell("class Config:\n    def __init__(self): self.lr = 0.5")
    nb.cell("config = Config()")
    nb.cell("class Config:\n    def __init__(self): self.lr = 0.5\n    def double(self): return 2 * self.lr")
    captured = nb.capture("result = config.double()")
    assert nb.execute(captured)["result"] == 1.0
    assert any("config was created by an earlier definition of Config" in note for note in captured.notes)


@pytest.mark.parametrize("wraps", ["@functools.wraps(f)", ""])
def test_decorated_functions_keep_their_decorators(nb, wraps):
    nb.cell("import functools")
    nb.cell(
        f"""
        def twice(f):
            {wraps}
            def wrapper(*args):
                return 2 * f(*args)
            return wrapper
        """
    )
    nb.cell("@twice\ndef add(a, b):\n    return a + b")
    assert nb.train("result = add(1, 2)")["result"] == 6
    assert "@twice\ndef add" in nb.capture("add(1, 2)").script


@pytest.mark.parametrize(
    "decorator",
    ["@functools.lru_cache(maxsize=8)", "@functools.cache", "@torch.no_grad()", "@contextlib.contextmanager"],
)
def test_decorators_of_libraries(nb, decorator):
    nb.cell("import functools, torch, contextlib")
    nb.cell(f"{decorator}\ndef f(x=1):\n    yield x\n")
    assert nb.train("result = type(f())")["result"] is not None


def test_dataclasses_enums_and_named_tuples(nb):
    nb.cell("from dataclasses import dataclass, field\nfrom enum import Enum\nfrom typing import NamedTuple")
    nb.cell("@dataclass\nclass Options:\n    lr: float = 0.1\n    tags: list = field(default_factory=list)")
    nb.cell("class Mode(Enum):\n    TRAIN = 1\n    TEST = 2")
    nb.cell("class Pair(NamedTuple):\n    a: int\n    b: int = 5")
    nb.cell("from collections import namedtuple\nPoint = namedtuple('Point', 'x y')")
    nb.cell("options = Options(0.2, ['a'])\nmode = Mode.TEST\npair = Pair(1)\npoint = Point(1, 2)")
    names = nb.train("result = (options.lr, options.tags, mode is Mode.TEST, pair, point.y)")
    assert names["result"] == (0.2, ["a"], True, (1, 5), 2)
    assert "mode = Mode.TEST" in nb.capture("mode").script


def test_type_variables(nb):
    nb.cell("import typing\nfrom typing import Generic, TypeVar\nT = TypeVar('T', bound=int)")
    nb.cell("P = typing.ParamSpec('P')\nclass Box(Generic[T]):\n    def get(self, x: T) -> T: return x\nbox = Box()")
    names = nb.train("def f(*a: P.args) -> T: return box.get(1)\nresult = f(), T.__bound__, Box[int].__args__")
    assert names["result"] == (1, int, (int,))


def test_a_closure_keeps_its_live_variables(nb):
    nb.cell("def make_adder(n):\n    def add(x):\n        return x + n\n    return add")
    nb.cell("add3 = make_adder(3)")
    nb.cell("def make_adder(n):\n    return None")
    assert nb.train("result = add3(4)")["result"] == 7


def test_a_counter_in_a_closure_keeps_its_state(nb):
    nb.cell(
        """
        def make_counter():
            count = 0
            def step():
                nonlocal count
                count += 1
                return count
            return step
        counter = make_counter()
        """
    )
    nb.cell("counter(); counter()")
    assert nb.train("result = counter()")["result"] == 3


def test_a_closure_over_data_shares_it_with_the_session_s_names(nb):
    nb.cell("import torch\nX = torch.arange(2000.)")
    nb.cell("def make(data):\n    return lambda: data\nget = make(X)")
    assert nb.train("result = get() is X")["result"] is True


def test_a_class_created_by_a_function(nb):
    nb.cell(
        """
        def make(n):
            class Scale:
                def __call__(self, x):
                    return x * n
            return Scale
        Triple = make(3)
        thing = Triple()
        """
    )
    assert nb.train("result = thing(2), Triple()(5)")["result"] == (6, 15)


def test_default_values_are_the_live_ones(nb):
    nb.cell("LR = 0.1")
    nb.cell("def f(lr=LR, *, steps=2 * 3):\n    return lr, steps")
    nb.cell("LR = 0.7")
    captured = nb.capture("result = f()")
    assert nb.execute(captured)["result"] == (0.1, 6)
    assert "def f(lr=0.1, *, steps=2 * 3):" in captured.script


@pytest.mark.parametrize(
    ("setup", "value"),
    [
        ("n = [1]\nclass A:\n    def f(self, x=len(n)): return x\nn.append(2)", "A().f()"),
        ("n = 1\nclass A:\n    def f(self, *, x=n): return x\nn = 2", "A().f()"),
        (
            "class A:\n    def f(self, x=[]):\n        x.append(1)\n        return x\nA().f()",
            "len(A.f.__defaults__[0])",
        ),
        ("n = 1\nclass A:\n    @staticmethod\n    def f(x=n): return x\nn = 2", "A.f()"),
        ("n = 1\nclass A:\n    @classmethod\n    def __f(cls, x=n): return x\nn = 2", "A._A__f()"),
        ("n = 1\nclass A:\n    class B:\n        def f(self, x=n): return x\nn = 2", "A.B().f()"),
        ("n = 1\nf = lambda *, x=n: x\nn = 2", "f()"),
    ],
)
def test_default_values_of_methods_and_lambdas_are_the_live_ones(nb, setup, value):
    nb.cell(setup)
    nb.cell(f"expected = {value}")
    assert nb.train(f"result = {value}")["result"] == nb["expected"]


def test_a_credential_that_a_method_s_default_reads_is_not_sent(nb, monkeypatch):
    monkeypatch.setenv("API_KEY", "abcdefgh1234")
    nb.cell("import os\nclass A:\n    def f(self, api_key=os.environ['API_KEY']): return len(api_key)")
    captured = nb.capture("result = A().f()")
    assert not captured.streams
    assert "abcdefgh1234" not in captured.script


def test_default_values_that_evaluate_to_the_live_ones_keep_their_source(nb):
    nb.cell("import torch\nLR = 0.1")
    nb.cell("def f(lr=LR, dtype=torch.float32, x=None, k=-1):\n    return lr")
    assert "def f(lr=LR, dtype=torch.float32, x=None, k=-1):" in nb.capture("f()").script


def test_a_mutable_default_is_the_same_object_in_every_call(nb):
    nb.cell("def f(x, seen=[]):\n    seen.append(x)\n    return list(seen)")
    nb.cell("f(1); f(2)")
    assert nb.train("result = f(3)")["result"] == [1, 2, 3]


def test_a_default_that_is_data(nb):
    nb.cell("import torch\nX = torch.ones(3000)")
    nb.cell("def f(data=X):\n    return data")
    names = nb.train("result = f() is X, float(f().sum())")
    assert names["result"] == (True, 3000.0)


def test_a_class_body_that_reads_data(nb):
    nb.cell("import torch\nX = torch.ones(30, 7)")
    nb.cell("from torch import nn\nclass Net(nn.Linear):\n    width = X.shape[1]\nmodel = Net(2, 2)")
    names = nb.train("result = Net.width, model.in_features, X.sum().item()")
    assert names["result"] == (7, 2, 210.0)


def test_several_lambdas_on_a_line(nb):
    nb.cell("f = lambda x: x + 1; g = lambda x: x + 2; h = k = lambda x: x * 3")
    assert nb.train("result = f(1), g(1), h(1), k(1)")["result"] == (2, 3, 3, 3)
    nb.cell("fs = [lambda x: x + 10, lambda x: x + 20]\nsecond = fs[1]")
    assert nb.train("result = second(1)")["result"] == 21


def test_a_lambda_over_several_lines(nb):
    nb.cell("f = (lambda x:\n     x + 1)")
    assert nb.train("result = f(1)")["result"] == 2


def test_partial(nb):
    nb.cell("from functools import partial\ndef scale(x, by):\n    return x * by\ntriple = partial(scale, by=3)")
    assert nb.train("result = triple(2)")["result"] == 6


def test_aliases_of_functions(nb):
    nb.cell("def f():\n    return 1\nalias = f")
    assert nb.train("result = alias()")["result"] == 1
    nb.cell("def f():\n    return 2")
    assert nb.train("result = alias(), f()")["result"] == (1, 2)


def test_methods_that_were_set_on_a_class_later(nb):
    nb.cell("class A:\n    def f(self):\n        return 'old'\n    @staticmethod\n    def s():\n        return 0")
    nb.cell("def f(self):\n    return 'new' + suffix\nsuffix = '!'\nA.f = f\nA.s = staticmethod(lambda: 7)")
    nb.cell("A.extra = 5")
    assert nb.train("result = A().f(), A.s(), A.extra")["result"] == ("new!", 7, 5)


def test_a_method_that_was_wrapped_later(nb):
    nb.cell("import functools\nclass A:\n    def f(self): return 1")
    nb.cell(
        """
        def plus(f):
            @functools.wraps(f)
            def wrapper(self): return f(self) + 10
            return wrapper
        A.f = plus(A.f)
        """
    )
    assert nb.train("result = A().f()")["result"] == 11


def test_functions_that_share_a_variable(nb):
    nb.cell(
        """
        def make():
            n = 0
            def up():
                nonlocal n
                n += 1
            def get(): return n
            return up, get
        """
    )
    nb.cell("up, get = make()\nup()")
    names = nb.train("up()\nresult = get(), up.__closure__[0] is get.__closure__[0]")
    assert names["result"] == (2, True)


def test_class_attributes_as_they_are_now(nb):
    nb.cell(
        "LR = 1\nclass A:\n    count = 0\n    lr = LR\n    names = []\n    def __init__(self):\n        A.count += 1"
    )
    nb.cell("A(); A(); A.names.append('x'); LR = 9")
    assert nb.train("result = A.count, A.lr, A.names")["result"] == (2, 1, ["x"])


@pytest.mark.parametrize(
    ("setup", "value"),
    [
        ("class A:\n    _count = 0\nA._count = 5", "A._count"),
        ("class A:\n    __n = 0\n    def add(self): A.__n += 1\nA().add()", "A._A__n"),
        ("class A:\n    registry = dict()\nA.registry['a'] = 1", "A.registry"),
        ("from collections import defaultdict\nclass A:\n    r = defaultdict(list)\nA.r['a'].append(1)", "A.r['a']"),
        ("import random\nclass A:\n    seed = random.random()", "A.seed"),
        ("import torch\nclass A:\n    table = torch.randn(3)", "A.table.tolist()"),
        ("import torch\nclass A: pass\nA.table = torch.ones(2)", "A.table.tolist()"),
        ("rate = 1\nclass A:\n    rates = [rate, 2]\nrate = 5", "A.rates"),
        ("shared = []\nclass A:\n    log = shared\nshared = [3]\nA.log.append(4)", "A.log"),
        ("from dataclasses import dataclass, field\n@dataclass\nclass A:\n    x: int = field(default=3)", "A().x"),
        ("class A:\n    registry = dict()", "A.registry"),
        ("import ctypes\nclass A(ctypes.Structure):\n    _fields_ = [('x', ctypes.c_int)]", "A(3).x"),
        ("class A:\n    class B:\n        n = 3\nA.B.n = 4", "A.B.n"),
        ("class A:\n    def f(self): return 3\nA.g = A.f", "A().g()"),
        ("import os\nclass A:\n    api_key = os.environ['API_KEY']", "A.api_key"),
        ("import torch\nclass A:\n    loss = torch.nn.MSELoss()\nA.loss = torch.nn.L1Loss()", "type(A.loss)"),
        ("from pathlib import Path\nclass A:\n    out = Path('a')\nA.out = Path('b')", "A.out"),
        ("import torch\nclass A: act = torch.relu\nA.act = torch.nn.functional.gelu", "A.act"),
        ("import torch\nclass A: pass\nA.act = torch.nn.functional.gelu", "A.act"),
        ("class A:\n    act = lambda x: 1\nA.act = lambda x: 2", "A.act(0)"),
        ("class B: n = 3\nclass A: kind = int\nA.kind = B", "A.kind().n"),
        ("class A: pass\nA._hidden = [1]", "A._hidden"),
        ("import threading\nclass A:\n    lock = threading.Lock()\n    n = 2", "A.n"),
        ("class A:\n    rows = iter([1])\n    n = 2", "A.n"),
        ("import re\nclass A:\n    pattern = re.compile('a+')", "A.pattern.pattern"),
    ],
)
def test_class_attributes_have_their_live_values(nb, monkeypatch, setup, value):
    monkeypatch.setenv("API_KEY", "hf_abcdefghijklmnop1234")
    nb.cell(setup)
    nb.cell(f"expected = {value}")
    assert nb.train(f"result = {value}")["result"] == nb["expected"]


def test_generic_functions_of_functools(nb):
    nb.cell("import functools\n@functools.singledispatch\ndef f(x): return 'other'")
    nb.cell("@f.register\ndef _(x: int): return 'number'\n@f.register(list)\ndef of_list(x): return f(x[0])")
    assert nb.train("result = f(''), f(1), f([2])")["result"] == ("other", "number", "number")


def test_attributes_of_decorated_functions(nb):
    nb.cell("import functools\n@functools.lru_cache\ndef f(): return 3\nf.calls = 4")
    nb.cell(
        """
        def counted(function):
            @functools.wraps(function)
            def call():
                call.count += 1
                return function()
            call.count = 0
            return call

        @counted
        def g(): return 5
        g(), g()
        """
    )
    assert nb.train("result = f.calls, f(), g.count, g()")["result"] == (4, 3, 2, 5)


def test_properties_classmethods_and_private_names(nb):
    nb.cell(
        """
        class A:
            __secret_sauce = 3
            def __init__(self): self.__x = 1
            @property
            def x(self): return self.__x
            @classmethod
            def make(cls): return cls()
            @staticmethod
            def s(): return helper()
        def helper(): return 8
        a = A.make()
        """
    )
    captured = nb.capture("result = a.x, A.make().x, A.s()")
    assert nb.execute(captured)["result"] == (1, 1, 8)
    assert "A.x =" not in captured.script


@pytest.mark.parametrize("magic", ["%%time", "%%capture", "%%capture out\n%%time"])
def test_functions_defined_under_a_cell_magic(nb, magic):
    nb.cell(f"{magic}\nimport math\ndef f():\n    return math.tau\nclass K:\n    def m(self): return 4")
    assert nb.train("result = f(), K().m()")["result"] == (pytest.approx(6.283185307), 4)


def test_functions_from_a_file_run_in_the_session(nb):
    (nb.folder / "lib.py").write_text("import math\nOFFSET = 2\ndef f(x):\n    return math.floor(x) + OFFSET\n")
    nb.cell("%run lib.py")
    assert nb.train("result = f(1.5)")["result"] == 3


def test_functions_under_if_and_try(nb):
    nb.cell(
        "try:\n    import no_such\nexcept ImportError:\n    def f():\n        text = '''a\nb'''\n        return text"
    )
    assert nb.train("result = f()")["result"] == "a\nb"


def test_recursion_and_mutual_recursion(nb):
    nb.cell("def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)")
    assert nb.train("result = even(10)")["result"] is True


def test_attributes_of_functions(nb):
    nb.cell("def f():\n    return f.calls\nf.calls = 3")
    assert nb.train("result = f()")["result"] == 3


def test_postponed_annotations_stay_postponed(nb):
    nb.cell("from __future__ import annotations\ndef f(x: Undefined) -> AlsoUndefined:\n    return x")
    names = nb.train("from __future__ import annotations\nresult = f(1)")
    assert names["result"] == 1


def test_segments_give_the_lines_of_definitions_and_cell(nb):
    nb.cell("a = 1\n\ndef f():\n    return a")
    captured = nb.capture("x = 1\nresult = f()", label="cell [7]")
    lines = captured.script.splitlines()
    written = {}
    for segment in captured.segments:
        for number in range(segment.count):
            written[segment.source, segment.origin + number] = lines[segment.start + number - 1]
    assert written["cell [1]", 3] == "def f():"
    assert written["cell [1]", 4] == "    return a"
    assert written["cell [7]", 2] == "x = 1"
    assert written["cell [7]", 3] == "result = f()"
    assert captured.segments[-1].source == "cell [7]"


def test_file_names_of_ipykernel_s_compiler(nb, monkeypatch):
    compiler = pytest.importorskip("ipykernel.compiler")
    monkeypatch.setattr(nb.shell, "compile", compiler.XCachingCompiler())
    nb.cell("def f(x):\n    return x + 1\nclass A:\n    def m(self): return f(1)")
    captured = nb.capture("result = A().m()")
    assert nb.execute(captured)["result"] == 2
    assert {segment.source for segment in captured.segments} == {"cell [1]", "cell"}


def test_what_decorators_of_the_notebook_did_is_in_the_values(nb):
    nb.cell(
        """
        REGISTRY, SEEN = {}, []
        def register(name):
            def decorate(made):
                REGISTRY[name] = made
                made.label = name
                SEEN.append(name)
                return made
            return decorate
        """
    )
    nb.cell("@register('a')\nclass A:\n    def f(self): return 1\n@register('b')\ndef b(): return 2")
    nb.cell("import torch\n@register('c')\n@torch.no_grad()\ndef c(x): return x * 2")
    names = nb.train(
        "x = torch.ones(1, requires_grad=True)\n"
        "result = REGISTRY['a']().f(), REGISTRY['b'](), REGISTRY['c'](x).requires_grad, sorted(REGISTRY), len(SEEN)\n"
        "same = A is REGISTRY['a'], c is REGISTRY['c'], A.label, b.label"
    )
    assert names["result"] == (1, 2, False, ["a", "b", "c"], 3)
    assert names["same"] == (True, True, "a", "b")


def test_what_a_decorator_registered_on_an_object_of_a_library_is_in_that_object(nb):
    nb.cell(
        """
        from collections import UserList
        class Events(UserList):
            def on(self, event):
                def decorate(handler):
                    self.append((event, handler))
                    return handler
                return decorate
        Events.__module__ = 'a.library'
        """
    )
    nb.cell("events, calls = Events(), []\nevents.on('begin')(print)")
    nb.cell("@events.on('step')\ndef count():\n    calls.append(1)")
    names = nb.train("for event, handler in events[1:]:\n    handler()\nresult = len(events), len(calls)")
    assert names["result"] == (2, 1)


def test_methods_that_a_decorator_added_to_a_class(nb):
    nb.cell(
        """
        def add_to(cls):
            def wrapper(obj): setattr(cls, obj.__name__, obj)
            return wrapper
        class Net:
            def run(self): return self.forward()
        """
    )
    nb.cell("@add_to(Net)\ndef forward(self): return 7")
    nb.cell("net = Net()")
    assert nb.train("result = net.run()")["result"] == 7


def test_a_class_that_a_decorator_of_the_notebook_makes_a_dataclass(nb):
    nb.cell("from dataclasses import dataclass\ndef record(cls): return dataclass(cls)")
    nb.cell("@record\nclass A:\n    n: int = 3")
    assert nb.train("result = A(4).n")["result"] == 4


def test_methods_that_attrs_writes(nb):
    pytest.importorskip("attrs")
    nb.cell(
        """
        import attrs
        @attrs.define
        class History:
            losses: list = attrs.Factory(list)
            best: float = attrs.field(default=9e9, validator=attrs.validators.instance_of(float))
            def add(self, loss): self.losses.append(loss); self.best = min(self.best, loss)
        @attrs.frozen
        class Config:
            lr: float = 0.1
        history, config = History(), Config()
        """
    )
    names = nb.train("history.add(0.5)\nresult = history.losses, attrs.evolve(config, lr=0.5).lr, history == History()")
    assert names["result"] == ([0.5], 0.5, False)


_EXECUTED = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def forward(self, x): return self.layer(x) * scale
def loss_of(net): return net(torch.ones(2, 2)).pow(2).mean()
"""


def test_definitions_that_exec_made_are_sent_as_their_source(nb):
    nb.cell(f"scale = 3\ntext = {_EXECUTED!r}\nexec(text)\nnet = Net()")
    captured = capture("loss = loss_of(net)", replace(nb.session, executed=[_EXECUTED]))
    assert "def loss_of(net)" in captured.script
    assert "class Net(torch.nn.Module)" in captured.script
    names = nb.execute(captured)
    assert float(names["loss"].detach()) == pytest.approx(float(nb["loss_of"](nb["net"]).detach()))


def test_definitions_without_source_are_sent_as_bytecode_with_a_note(nb):
    nb.cell(f"scale = 3\nexec({_EXECUTED!r})\nnet = Net()\nf = eval('lambda x: x + scale')\nf.state = [1]")
    captured = nb.capture("loss, n = loss_of(net), f(1)\nf.state.append(2)")
    assert any(note.startswith("loss_of: its source was not found, so the run needs Python") for note in captured.notes)
    names = nb.execute(captured)
    assert (names["n"], names["f"].state, type(names["net"]) is names["Net"]) == (4, [1, 2], True)


def test_an_operator_of_torch_with_what_was_registered_for_it(nb):
    nb.cell(
        """
        import torch
        @torch.library.custom_op("mlnb_tests::twice", mutates_args=())
        def twice(x: torch.Tensor) -> torch.Tensor: return x * 2
        @twice.register_fake
        def _(x): return torch.empty_like(x)
        def setup(context, inputs, output): pass
        def back(context, gradient): return gradient * 2
        twice.register_autograd(back, setup_context=setup)
        """
    )
    script = nb.capture("twice(torch.ones(1, requires_grad=True)).sum().backward()").script
    assert '@torch.library.custom_op("mlnb_tests::twice", mutates_args=())\ndef twice(' in script
    assert "twice.register_autograd(back, setup_context=setup)" in script
    assert "@twice.register_fake" in script


WRAPPING = """
import functools

def limited(function, allowed):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments) if allowed(*arguments) else None
    return wrapper

def plain(function):
    return limited(function, lambda *_: True)
"""


def test_a_function_that_a_library_has_wrapped_since_stays_wrapped(nb, monkeypatch):
    monkeypatch.syspath_prepend(str(nb.folder))
    (nb.folder / "limits.py").write_text(WRAPPING)
    nb.cell("import limits\ndef f(x):\n    return x\n@limits.plain\ndef g(x):\n    return x")
    nb.cell("table = {'f': limits.limited(f, lambda x: x > 1), 'g': limits.limited(g, lambda x: x > 1), 'own': g}")
    cell = "result = [[call(1), call(2)] for call in table.values()] + [f(1), g(1), table['own'] is g]"
    nb.cell(cell)
    assert nb.train(cell)["result"] == nb["result"] == [[None, 2], [None, 2], [1, 2], 1, 1, True]
