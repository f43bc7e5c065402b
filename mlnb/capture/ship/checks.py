"""What may go along: nothing that is bound to this process, and no credentials unless they are named."""

from __future__ import annotations

import re
import types
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mlnb.capture.reasons import Reason
from mlnb.capture.ship import refusals, secrets, streams
from mlnb.errors import CannotShip
from mlnb.node.data import objects


class Guard:
    """Refuses values.

    Parameters
    ----------
    allowed
        names whose values may hold credentials, since the person has named them.
    known
        whether the script knows a function or class by a name.
    """

    def __init__(self, allowed: Collection[str], known: Callable[[Any], bool]) -> None:
        self.allowed = frozenset(allowed)
        self._known = known
        self._harmless: dict[type, bool] = {}

    def look(self, name: str, obj: Any) -> None:
        """Look at an object on its way into a stream, as a part of ``name``.

        Raises
        ------
        Exception
            if it can't go along; :meth:`explain` says why.
        """
        kind = type(obj)
        if kind not in self._harmless:
            self._harmless[kind] = refusals.why_not(obj) is None
        if not self._harmless[kind]:
            raise TypeError(f"{kind.__name__} can't go to another machine")
        if name in self.allowed:
            return
        if (isinstance(obj, (str, bytes)) and secrets.looks_secret(obj)) or secrets.in_mapping(obj) is not None:
            raise _Credential(name)

    def explain(
        self,
        values: Mapping[str, Any],
        name: str,
        error: Exception,
        reasons: Mapping[str, Reason],
        shown: Callable[[str], str],
    ) -> CannotShip:
        """Say what kept values from being pickled, and where in them it is.

        Parameters
        ----------
        name
            the value that was being pickled.
        shown
            how a person knows a name.
        """
        if not isinstance(error, _Credential):
            faulty = [name, *(other for other in values if other != name)]
            name = next((other for other in faulty if self.fault(values[other])), name)
        value = values[name]
        reason = reasons.get(name, Reason(None))
        if isinstance(error, _Credential):
            return self._credential(self._path(value, shown(name)), name, reason)
        path, inner = refusals.locate(value, shown(name), lambda part: self.fault(part) is None)
        refused = refusals.why_not(inner)
        if refused:
            return CannotShip(f"{path}{reason} is {refused[0]}, which can't go to another machine: {refused[1]}.")
        why = str(error).split("\n")[0] or type(error).__name__
        return CannotShip(
            f"{path}{reason} ({type(inner).__name__}) can't go to another machine: {why}. Make it inside the cell."
        )

    def fault(self, value: Any) -> str | None:
        """Why ``value``, taken alone, can't be pickled."""
        try:
            self._probe(value)
        except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
            return str(error).split("\n")[0] or type(error).__name__
        return None

    def _probe(self, value: Any) -> None:
        def visit(obj: Any) -> None:
            if refusals.why_not(obj):
                raise TypeError(f"{type(obj).__name__} can't go to another machine")

        def reference(obj: Any) -> str | None:
            return "known" if self._known(obj) else None

        objects.dump(value, streams.LiveSink(), objects.Labels(), prefix="", reference=reference, visit=visit)

    def check_name(self, name: str, value: Any, reason: Reason) -> None:
        """Refuse a value that is a credential itself; what is in it is looked at when it is pickled.

        Raises
        ------
        CannotShip
            naming it, but never showing it.
        """
        if name not in self.allowed and (secrets.named_secret(name, value) or secrets.looks_secret(value)):
            raise self._credential(name, name, reason)

    def check(self, name: str, value: Any, reason: Reason) -> None:
        """Refuse a value that is a credential, or holds one.

        Raises
        ------
        CannotShip
            naming it, but never showing it.
        """
        if name in self.allowed:
            return
        if self.is_credential(name, value):
            raise self._credential(self._path(value, name), name, reason)

    def is_credential(self, name: str, value: Any) -> bool:
        """Whether a value is a credential by its name or look, or holds one."""
        return secrets.named_secret(name, value) or self._holds_credential(value)

    def _path(self, value: Any, shown: str) -> str:
        """How a person writes the credential that is somewhere in ``value``, known as ``shown``."""
        path, inner = refusals.locate(value, shown, lambda part: not self._holds_credential(part))
        if (key := secrets.in_mapping(inner)) is not None:
            return f"{path}[{key!r}]"
        if (key := secrets.in_mapping(getattr(inner, "__dict__", None))) is not None:
            return f"{path}.{key}"
        return path

    def _holds_credential(self, value: Any) -> bool:
        queue = deque([value])
        seen: set[int] = set()
        while queue:
            item = queue.popleft()
            if id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, (str, bytes)):
                if secrets.looks_secret(item):
                    return True
            elif isinstance(item, dict):
                if secrets.in_mapping(item) is not None:
                    return True
                queue.extend(item.values())
            elif isinstance(item, (list, tuple, set, frozenset)):
                queue.extend(item)
            elif hasattr(item, "__dict__") and not isinstance(item, (type, types.ModuleType, types.FunctionType)):
                queue.append(vars(item))
        return False

    @staticmethod
    def _credential(path: str, name: str, reason: Reason) -> CannotShip:
        variable = re.findall(r"[A-Za-z]\w*", path)[-1].upper()
        return CannotShip(
            f"{path}{reason} looks like a credential, and runs are kept on disk. Say --in {name} if it may go, or "
            f"set it as an environment variable and use --env {variable} and os.environ['{variable}']."
        )


class _Credential(Exception):
    """A credential was met inside of a value."""
