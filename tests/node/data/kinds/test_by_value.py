"""Functions and classes that can't be imported travel as their parts, and their code by where its source is."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mlnb.node.data import objects
from mlnb.node.data.kinds.code import CodeNotFound, ScriptCode
from mlnb.node.data.sinks import NullSink
from mlnb.node.data.storages import CopiedFiles
from mlnb.task import Segment

Get = Callable[..., dict[str, Any]]


@pytest.fixture
def returned(tmp_path: Path) -> Iterator[Get]:
    """Run a script as a run does, and load the named values as the session does, which compiles the script itself."""

    def get(script: str, *names: str, session: dict[str, Any] | None = None) -> dict[str, Any]:
        filename = str(tmp_path / "script.py")
        main: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(script, filename, "exec", dont_inherit=True), main)
        values = {name: main[name] for name in names}
        code = ScriptCode(script, filename)
        stream = objects.dump(values, NullSink(), objects.Labels(), prefix="", script=code)
        here = {"__name__": "__main__"} if session is None else session
        segments = (Segment(1, script.count("\n") + 1, "cell [7]", 11),)
        loaded = objects.load(
            stream, CopiedFiles(), objects.Labels(), here, script=ScriptCode(script, segments=segments)
        )
        assert isinstance(loaded, dict)
        return loaded

    return get


_COUNTER = """
def counter(n):
    def more():
        nonlocal n
        n += 1
        return n
    def now():
        return n
    return more, now

more, now = counter(3)
more()
"""


def test_closures_keep_their_variables_and_share_them(returned: Get):
    got = returned(_COUNTER, "more", "now")
    assert got["now"]() == 4
    assert got["more"]() == 5
    assert got["now"]() == 5
    assert got["more"].__qualname__ == "counter.<locals>.more"


def test_code_is_found_by_its_source_which_inspect_shows(returned: Get):
    more = returned(_COUNTER, "more")["more"]
    assert (more.__code__.co_filename, more.__code__.co_firstlineno) == ("<cell [7]>", 13)
    assert inspect.getsource(more).split() == "def more(): nonlocal n n += 1 return n".split()  # noqa: SIM905


def test_a_function_that_calls_itself(returned: Get):
    script = "def make():\n    def down(n): return 0 if n == 0 else 1 + down(n - 1)\n    return down\ndown = make()\n"
    assert returned(script, "down")["down"](4) == 4


def test_functions_read_the_names_of_the_session(returned: Get):
    session = {"__name__": "__main__", "scale": 10}
    assert returned("scale = 2\ntimes = lambda x: x * scale\n", "times", session=session)["times"](3) == 30


def test_defaults_attributes_and_annotations_are_those_of_the_run(returned: Get):
    script = (
        "def see(x: int, log=[], *, step=1):\n    log.append(x)\n    return log\n"
        "see(1)\nsee.calls = {'n': 1}\nsee.__kwdefaults__['step'] = 5\n"
    )
    see = returned(script, "see")["see"]
    assert see(2) == [1, 2]
    assert see.calls == {"n": 1}
    assert see.__kwdefaults__ == {"step": 5}
    assert see.__annotations__ == {"x": int}


def test_lambdas_in_one_line_are_told_apart(returned: Get):
    got = returned("fs = [lambda x: x + 1, lambda x: x + 2, lambda x: x + 1]\n", "fs")["fs"]
    assert [f(0) for f in got] == [1, 2, 1]


def test_decorated_and_cached_functions(returned: Get):
    script = (
        "import functools, torch\n@torch.no_grad()\ndef plain(x): return x * 2\n"
        "@functools.lru_cache(maxsize=9)\ndef cached(x): return x + 1\n"
    )
    got = returned(script, "plain", "cached")
    assert not got["plain"](torch.ones(1, requires_grad=True)).requires_grad
    assert got["cached"](1) == 2
    assert got["cached"].cache_parameters()["maxsize"] == 9


_CLASSES = """
import abc, collections, dataclasses, enum, functools, typing
from abc import ABC
T = typing.TypeVar("T")
def make(width):
    class Base(ABC):
        size = [width]
        @abc.abstractmethod
        def area(self): ...
    class Square(Base):
        __slots__ = ("side",)
        def __init__(self, side):
            super().__init__()
            self.side = side
        def area(self): return self.side ** 2 + width
        @property
        def half(self): return self.side / 2
        @classmethod
        def unit(cls): return cls(1)
        @staticmethod
        def zero(): return 0
        @functools.cached_property
        def unused(self): return 1
    class Color(enum.Enum):
        RED = 1
        BLUE = 2
        def twice(self): return self.value * 2
    Pair = collections.namedtuple("Pair", "a b", defaults=[7])
    class Point(typing.NamedTuple):
        x: int
        y: int = 4
        def total(self): return self.x + self.y
    @dataclasses.dataclass(order=True)
    class Row:
        n: int
        items: list = dataclasses.field(default_factory=list)
    class Box(typing.Generic[T]):
        def __init__(self, value): self.value = value
    return Base, Square, Color, Pair, Point, Row, Box
Base, Square, Color, Pair, Point, Row, Box = make(100)
square, red, pair, point, row, box = Square(3), Color.RED, Pair(1), Point(1), Row(2), Box(5)
"""


def test_classes_made_in_a_function(returned: Get):
    names = "Base Square Color Pair Point Row Box square red pair point row box".split()  # noqa: SIM905
    got = types.SimpleNamespace(**returned(_CLASSES, *names))
    assert type(got.square) is got.Square
    assert (got.square.area(), got.square.half, got.Square.unit().side, got.Square.zero()) == (109, 1.5, 1, 0)
    assert got.Square.size is got.Base.size
    with pytest.raises(TypeError, match="abstract"):
        got.Base()
    assert vars(got.square) == {}  # it has a slot
    assert got.red is got.Color.RED
    assert isinstance(got.Color, enum.EnumMeta)
    assert got.red.twice() == 2
    assert (got.pair, got.Pair(2)) == ((1, 7), (2, 7))
    assert got.point.total() == 5
    assert dataclasses.replace(got.row, n=1) < got.row
    assert [field.name for field in dataclasses.fields(got.Row)] == ["n", "items"]
    assert got.Row(1).items is not got.Row(1).items
    assert got.box.value == 5
    assert got.Box[int]


def test_a_module_made_in_a_function(returned: Get):
    script = (
        "import torch\ndef make(width):\n    class Net(torch.nn.Module):\n        def __init__(self):\n"
        "            super().__init__()\n            self.layer = torch.nn.Linear(2, width)\n"
        "        def forward(self, x): return self.layer(x) * width\n    return Net()\nnet = make(3)\n"
    )
    net = returned(script, "net")["net"]
    assert net(torch.ones(1, 2)).shape == (1, 3)


def test_a_bound_method_that_an_attribute_hides(returned: Get):
    script = "import torch\nnet = torch.nn.Linear(1, 1)\nold = net.forward\nnet.forward = lambda x: old(x) + 100\n"
    session: dict[str, Any] = {"__name__": "__main__"}
    got = returned(script, "net", "old", session=session)
    session["old"] = got["old"]
    assert got["old"].__func__ is torch.nn.Linear.forward
    assert float(got["net"](torch.zeros(1, 1)).detach()) > 50


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module with functions and classes that have no name in it."""
    source = "SCALE = 2\ndef make(n):\n"
    source += "    class Inner:\n        def get(self): return n * SCALE\n    return Inner, lambda: n + SCALE\n"
    (tmp_path / "made_by_library.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    import made_by_library  # type: ignore[import-not-found]

    assert isinstance(made_by_library, types.ModuleType)
    return made_by_library


def travel(value: Any) -> Any:
    return objects.load(
        objects.dump(value, NullSink(), objects.Labels(), prefix=""), CopiedFiles(), objects.Labels(), {}
    )


def test_what_a_library_makes_refers_to_the_library(library: types.ModuleType):
    made, function = travel(library.make(3))
    assert function.__globals__ is vars(library)
    assert (made().get(), function()) == (6, 5)


def test_code_of_a_library_is_not_sent(library: types.ModuleType):
    stream = objects.dump(library.make(3), NullSink(), objects.Labels(), prefix="")
    assert b"made_by_library" in stream.data
    assert b"SCALE" not in stream.data


def test_code_without_source_comes_from_the_same_python(monkeypatch: pytest.MonkeyPatch):
    namespace: dict[str, Any] = {"__name__": "nowhere", "base": 5}
    exec("def f(x): return g(x) + base\ndef g(x): return x * 2", namespace)
    assert travel(namespace["f"])(1) == 7
    stream = objects.dump(namespace["f"], NullSink(), objects.Labels(), prefix="")
    monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"other")
    with pytest.raises(CodeNotFound, match="another version of Python"):
        objects.load(stream, CopiedFiles(), objects.Labels(), {})


def test_what_can_be_imported_is_imported():
    values = [functools.partial, collections.OrderedDict, torch.nn.Linear, torch.nn.functional.relu, type(None), len]
    assert all(got is sent for got, sent in zip(travel(values), values, strict=True))


def test_a_read_only_view_of_a_dictionary_is_one_of_the_same_dictionary():
    values = {"a": 1}
    got, view = travel((values, types.MappingProxyType(values)))
    got["b"] = 2
    assert view == {"a": 1, "b": 2}
