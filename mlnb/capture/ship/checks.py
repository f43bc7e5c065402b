"""Checks of what is sent to a run: nothing that only works in this process, and no credentials unless allowed."""

from __future__ import annotations

import re
import types
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mlnb.capture.reasons import Reason
from mlnb.capture.ship import refusals, secrets, streams
from mlnb.capture.ship.refusals import unshippable_reason
from mlnb.errors import CannotShip
from mlnb.node.data import objects
from mlnb.node.data.asking import attribute, has_attribute


class ShippingChecks:
    """Refuses values that must not or can't be sent.

    Parameters
    ----------
    allowed
        names whose values may hold credentials, since the user has listed them (``--in``).
    is_defined_in_script
        whether the script defines a function or class, so that data refer to it by name.
    made_anew
        ``id`` of values that the run makes anew → name: data refer to them by name.
    """

    def __init__(
        self,
        allowed: Collection[str],
        is_defined_in_script: Callable[[Any], bool],
        made_anew: Mapping[int, str],
    ) -> None:
        self._made_anew = made_anew
        self.allowed = frozenset(allowed)
        self._is_defined_in_script = is_defined_in_script
        self._shippable_types: dict[type, bool] = {}

    @property
    def libraries(self) -> set[str]:
        """The top-level modules that define the types of the objects that were checked."""
        return {kind.__module__.split(".")[0] for kind in self._shippable_types}

    def check_object(self, name: str, obj: Any) -> None:
        """Check an object that is about to be pickled as a part of ``name``.

        Raises
        ------
        Exception
            if it can't be sent; :meth:`explain` turns that into a message.
        """
        kind = type(obj)
        if kind not in self._shippable_types:
            self._shippable_types[kind] = unshippable_reason(obj) is None
        if id(obj) in self._made_anew:
            return
        if not self._shippable_types[kind] and unshippable_reason(obj) is not None:
            raise TypeError(f"{kind.__name__} can't be sent to another process")
        if name in self.allowed:
            return
        if (isinstance(obj, (str, bytes)) and secrets.looks_secret(obj)) or secrets.secret_key(obj) is not None:
            raise _CredentialFound(name)

    def explain(
        self,
        values: Mapping[str, Any],
        name: str,
        error: Exception,
        reasons: Mapping[str, Reason],
        display_name: Callable[[str], str],
    ) -> CannotShip:
        """A refusal that says which part of which value can't be sent, and why.

        Parameters
        ----------
        values
            what was to be pickled, by name.
        name
            the value that was being pickled when ``error`` was raised.
        reasons
            why each name is needed.
        display_name
            what to call a name in a message.
        """
        if not isinstance(error, _CredentialFound):
            candidates = [name, *(other for other in values if other != name)]
            name = next((other for other in candidates if self.pickling_error(values[other])), name)
        value = values[name]
        reason = reasons.get(name, Reason(None))
        if isinstance(error, _CredentialFound):
            return self._credential_refusal(self._credential_path(value, display_name(name)), name, reason)
        parts = list(refusals.chain(value, display_name(name), lambda part: self.pickling_error(part) is None))
        path, part = parts[-1]
        unshippable = unshippable_reason(part)
        library = next(((path, part) for path, part in parts[:-1] if _is_of_library(part)), None)
        if library is not None:  # what is inside of it means nothing to the user
            path, part = library
            what = unshippable.kind if unshippable else type(parts[-1][1]).__name__
            return CannotShip(
                f"{path}{reason} ({type(part).__name__}) can't be sent to another process, since it holds {what}. "
                "Create it inside the cell, or by a line of its own in another, which the run then repeats."
            )
        if unshippable:
            return CannotShip(f"{path}{reason} is {unshippable}")
        problem = f"({type(part).__name__}) can't be sent to another process: {_first_line(error)}"
        return CannotShip(f"{path}{reason} {problem}. Create it inside the cell.")

    def pickling_error(self, value: Any) -> str | None:
        """Why ``value``, taken alone, can't be pickled."""
        try:
            self._try_pickle(value)
        except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
            return _first_line(error)
        return None

    def _try_pickle(self, value: Any) -> None:
        def visit(obj: Any) -> None:
            if unshippable_reason(obj) and id(obj) not in self._made_anew:
                raise TypeError(f"{type(obj).__name__} can't be sent to another process")

        def reference(obj: Any) -> str | None:
            return "defined" if self._is_defined_in_script(obj) else None

        sink, labels = streams.LiveSink(), objects.Labels()
        objects.dump(value, sink, labels, prefix="", reference=reference, visit=visit, earlier=self._made_anew)

    def check_name(self, name: str, value: Any, reason: Reason) -> None:
        """Refuse a value that is itself a credential, or has a graph; its parts are checked when it is pickled.

        Raises
        ------
        CannotShip
            with the name of the credential, never with the credential.
        """
        if name not in self.allowed and (secrets.named_secret(name, value) or secrets.looks_secret(value)):
            raise self._credential_refusal(name, name, reason)
        if refusals.is_computed(value):
            raise CannotShip(
                f"{name}{reason} was computed from tensors that require gradients; its graph can't be sent: they would "
                f"not be trained. Move the line that computes it into the cell, or send {name}.detach()."
            )

    def check(self, name: str, value: Any, reason: Reason) -> None:
        """Refuse a value that is a credential or holds one.

        Raises
        ------
        CannotShip
            with the name of the credential, never with the credential.
        """
        if name in self.allowed:
            return
        if self.is_credential(name, value):
            raise self._credential_refusal(self._credential_path(value, name), name, reason)

    def is_credential(self, name: str, value: Any) -> bool:
        """Whether a value is a credential, judged by its name and format, or holds one."""
        return secrets.named_secret(name, value) or self._holds_credential(value)

    def _credential_path(self, value: Any, path: str) -> str:
        """The expression for the credential somewhere in ``value``; ``path`` is the expression for ``value``."""
        path, inner = refusals.locate(value, path, lambda part: not self._holds_credential(part))
        if (key := secrets.secret_key(inner)) is not None:
            return f"{path}[{key!r}]"
        if (key := secrets.secret_key(attribute(inner, "__dict__", None))) is not None:
            return f"{path}.{key}"
        return path

    def _holds_credential(self, value: Any) -> bool:
        queue = deque([value])
        visited: set[int] = set()
        while queue:
            item = queue.popleft()
            if id(item) in visited:
                continue
            visited.add(id(item))
            if isinstance(item, (str, bytes)):
                if secrets.looks_secret(item):
                    return True
            elif isinstance(item, dict):
                if secrets.secret_key(item) is not None:
                    return True
                queue.extend(item.values())
            elif isinstance(item, (list, tuple, set, frozenset)):
                queue.extend(item)
            elif has_attribute(item, "__dict__") and not isinstance(item, (type, types.ModuleType, types.FunctionType)):
                queue.append(vars(item))
        return False

    @staticmethod
    def _credential_refusal(path: str, name: str, reason: Reason) -> CannotShip:
        variable = re.findall(r"[A-Za-z]\w*", path)[-1].upper()
        return CannotShip(
            f"{path}{reason} looks like a credential, and runs are stored on disk. Add --in {name} to send it anyway, "
            f"or set it as an environment variable and use --env {variable} and os.environ['{variable}']."
        )


class _CredentialFound(Exception):
    """A value that is being pickled holds a credential."""


def _is_of_library(value: Any) -> bool:
    """Whether a value is an object of a library, but no container of the user's objects."""
    kind = type(value)
    if isinstance(value, (types.FunctionType, types.MethodType, type)) or kind.__module__ in ("__main__", "builtins"):
        return False
    return kind.__module__.partition(".")[0] not in ("collections", "functools", "torch", "types", "typing")


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__
