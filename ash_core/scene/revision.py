"""Revision of what a frame is drawn of: a counter that every change of it raises."""

from typing import Generic, Protocol, TypeVar, overload

Value = TypeVar("Value")


class HasRevision(Protocol):
    """Owner of fields that frames are drawn of."""

    def touch(self) -> None:
        """Raise the revision."""
        ...


class Drawn(Generic[Value]):
    """Field that frames are drawn of: another value raises the revision of its owner.

    Values are told apart by identity (tensors have no one equality), or with `by_value` by `==`.
    """

    def __init__(self, by_value: bool = False) -> None:
        self._by_value = by_value

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, kind: type) -> "Drawn[Value]": ...
    @overload
    def __get__(self, owner: HasRevision, kind: type) -> Value: ...
    def __get__(self, owner: HasRevision | None, kind: type) -> "Drawn[Value] | Value":
        if owner is None:
            return self
        try:
            return vars(owner)[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, owner: HasRevision, value: Value) -> None:
        fields = vars(owner)
        before = fields.get(self._name, self)
        fields[self._name] = value
        if not (before is value or (self._by_value and before == value)):
            owner.touch()
