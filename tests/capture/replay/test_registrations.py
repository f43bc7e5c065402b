"""What the session registered on an object that the script makes again is registered there, too."""

from __future__ import annotations


def test_an_operator_with_its_formulas(nb):
    nb.cell(
        """
        import torch
        @torch.library.custom_op("mlnbtest::twice", mutates_args=())
        def twice(x: torch.Tensor) -> torch.Tensor: return x * 2
        @twice.register_fake
        def _(x): return torch.empty_like(x)
        def back(ctx, grad): return grad * 2
        twice.register_autograd(back)
        """
    )
    script = nb.capture("result = twice(torch.ones(2))").script
    lines = ["def twice(x", "@twice.register_fake\ndef _(x)", "def back(ctx, grad)", "twice.register_autograd(back)"]
    assert [script.index(line) for line in lines] == sorted(script.index(line) for line in lines)
    assert script.count("def _(x)") == 1
    assert "register_fake" in nb.capture("print(torch.ops.mlnbtest.twice)").script


def test_calls_that_register_nothing_are_not_repeated(nb):
    nb.cell(
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\npool.submit(print, 'once')"
    )
    assert "once" not in nb.capture("result = pool.submit(len, 'ab').result()").script


def test_a_decorator_that_registers_its_class_in_a_library(nb):
    nb.cell(
        """
        import pandas as pd
        @pd.api.extensions.register_series_accessor("mlnbtest")
        class Accessor:
            def __init__(self, series): self.series = series
            def count(self): return len(self.series)
        series = pd.Series([1, 2])
        """
    )
    script = nb.capture("counted = series.mlnbtest.count()").script
    assert script.index('register_series_accessor("mlnbtest")') < script.index("class Accessor")
    assert script.count("class Accessor") == 1
    assert "Accessor" not in nb.capture("import torch\nprint(torch.ones(2))").script


def test_registrations_in_any_module_but_for_those_of_the_process(nb):
    nb.cell(
        """
        import atexit, copyreg, csv, math, sqlite3, ssl
        class Point:
            def __init__(self, x): self.x = x
        """
    )
    nb.cell(
        """
        copyreg.pickle(Point, lambda point: (Point, (point.x,)))
        csv.register_dialect("mlnbtest", delimiter=";")
        sqlite3.register_adapter(Point, lambda point: point.x)
        ssl._create_default_https_context = ssl._create_unverified_context
        atexit.register(print, "left")
        """
    )
    try:
        script = nb.capture("print('done')").script
    finally:
        copyreg_ = __import__("copyreg")
        copyreg_.dispatch_table.pop(nb.namespace["Point"], None)
        __import__("atexit").unregister(print)
        __import__("csv").unregister_dialect("mlnbtest")
        __import__("ssl")._create_default_https_context = __import__("ssl").create_default_context
    for line in ("copyreg.pickle(Point", "csv.register_dialect(", "sqlite3.register_adapter(", "ssl._create_default"):
        assert line in script, line
    assert "atexit.register" not in script


def test_virtual_subclasses_of_an_abstract_class(nb):
    nb.cell(
        """
        import abc
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
        @Shape.register
        class Square:
            def area(self): return 4
        Shape.register(dict)
        """
    )
    captured = nb.capture("result = isinstance(Square(), Shape)")
    assert not captured.notes
    assert nb.train("result = isinstance(Square(), Shape), isinstance({}, Shape)")["result"] == (True, True)


def test_a_library_of_operators(nb):
    nb.cell(
        """
        import torch
        lib = torch.library.Library("mlnbtestlib", "DEF")
        lib.define("addone(Tensor x) -> Tensor")
        @torch.library.impl(lib, "addone", "CPU")
        def addone(x): return x + 1
        def addone_meta(x): return torch.empty_like(x)
        lib.impl("addone", addone_meta, "Meta")
        """
    )
    script = nb.capture("result = torch.ops.mlnbtestlib.addone(torch.ones(2))").script
    assert script.count("lib.define(") == 1
    lines = ["lib = torch.library.Library(", "lib.define(", "@torch.library.impl(lib", "def addone_meta", "lib.impl("]
    assert [script.index(line) for line in lines] == sorted(script.index(line) for line in lines)


def test_operators_by_name_without_a_library(nb):
    nb.cell(
        """
        import torch
        from torch.library import impl
        torch.library.define("mlnbtestname::half", "(Tensor x) -> Tensor")
        @torch.library.impl("mlnbtestname::half", "cpu")
        def half(x): return x / 2
        @torch.library.register_fake("mlnbtestname::half")
        def _(x): return torch.empty_like(x)
        torch.library.define("mlnbtestname::third", "(Tensor x) -> Tensor")
        def third(x): return x / 3
        impl("mlnbtestname::third", "cpu")(third)
        torch.library.opcheck(torch.ops.mlnbtestname.half, (torch.ones(2),), test_utils="test_schema")
        """
    )
    script = nb.capture("result = torch.ops.mlnbtestname.half(torch.ones(2))").script
    for line in ("@torch.library.impl(", "@torch.library.register_fake(", 'define("mlnbtestname::third"'):
        assert script.count(line) == 1, line
    assert script.index("torch.library.define(") < script.index("@torch.library.impl(")
    assert script.index("def third") < script.index('impl("mlnbtestname::third", "cpu")(third)')
    assert "opcheck" not in script


def test_what_was_tied_to_an_object_that_is_made_anew(nb):
    nb.cell(
        """
        import sqlite3
        from concurrent.futures import ThreadPoolExecutor
        class Meter:
            def __init__(self, name): self.name = name
            def attach(self, engine, name): engine.meters = {**getattr(engine, "meters", {}), name: self}
        def label(engine, text): engine.label = text
        def double(x): return 2 * x
        """
    )
    nb.cell("Meter('early')\ndb = sqlite3.connect('some.db')\npool = ThreadPoolExecutor(1)")
    nb.cell(
        """
        Meter("loss").attach(pool, "loss")
        meter = Meter("accuracy")
        meter.attach(pool, name="accuracy")
        setattr(pool, "kind", "small")
        pool.size = 1
        pool.size += 2
        for name in ("a", "b"):
            Meter(name).attach(pool, name)
        db.create_function("double", 1, double)
        db.row_factory = sqlite3.Row
        """
    )
    names = nb.train(
        """
        tied = sorted(pool.meters), pool.meters["accuracy"] is meter, pool.kind, pool.size
        row = db.execute("select double(4) as x").fetchone()["x"]
        """
    )
    assert names["tied"] == (["a", "accuracy", "b", "loss"], True, "small", 3)
    assert names["row"] == 8


def test_what_else_was_done_with_it_is_said(nb):
    nb.cell("from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)")
    nb.cell("pool.submit(print, 'once')\nprint(pool)\nfor i in range(2):\n    pool.submit(print, i)")
    captured = nb.capture("result = pool.submit(len, 'ab').result()")
    assert "once" not in captured.script
    (note,) = (note for note in captured.notes if "not repeated" in note)
    assert note.startswith(
        "pool: what the session did with it is not repeated: `pool.submit(print, 'once')` (cell [2]), "
    )


def test_an_object_that_holds_it_already_is_not_given_it_again(nb):
    nb.cell(
        """
        from concurrent.futures import ThreadPoolExecutor
        class Trainer:
            def __init__(self): self.parts = []
            def register(self, part): self.parts.append(part)
        parts = []
        def add_part(part): parts.append(part)
        """
    )
    nb.cell("pool = ThreadPoolExecutor(1)\ntrainer = Trainer()\ntrainer.register(pool)\nadd_part(pool)")
    names = nb.train("result = trainer.parts == [pool], parts == [pool]")
    assert names["result"] == (True, True)
