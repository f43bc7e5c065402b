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
