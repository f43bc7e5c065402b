"""Objects of a class that share their state still do so in the other process."""

from __future__ import annotations

from typing import Any, ClassVar

from mlnb.node.data.pickling.reduction import take_apart


class Shared:
    """All objects have the same attributes."""

    state: ClassVar[dict[str, Any]] = {}

    def __init__(self, **values: Any) -> None:
        self.__dict__ = self.state
        self.__dict__.update(values)


class Special(Shared):
    """A class whose ``__getattr__`` has an error message of its own."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name}: make a Special first")


def test_the_shared_state_is_set_in_the_class():
    for kind in (Shared, Special):
        reduced = take_apart(kind(device="cpu"))
        assert isinstance(reduced, tuple)
        function, arguments, state, _, _, setter = reduced
        Shared.state.clear()  # as in a new process
        made = function(*arguments)
        setter(made, state)
        assert made.__dict__ is Shared.state
        assert Shared().__dict__["device"] == "cpu"
        Shared.state.clear()


def test_a_class_with_a_dictionary_that_objects_do_not_share():
    class Plain:
        registry: ClassVar[dict[str, int]] = {}

    assert take_apart(Plain())[2] is None
