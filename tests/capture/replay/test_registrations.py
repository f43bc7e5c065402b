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
    assert "register_fake" not in nb.capture("print(torch.ones(2))").script


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
