"""Objects by name: built in, from installed packages, and registered by programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import suggest


class Named(Protocol):
    """An object that a registry can hold."""

    @property
    def name(self) -> str:
        """Its name in recipes and records."""


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T]):
    """A mapping by name that other packages extend through entry points.

    Entry points are loaded once, when a name that is not edgeq's own or all names are first asked
    for: importing edgeq imports no plugin, nor does loading what needs none.

    >>> from edgeq.quantize.number_formats import NUMBER_FORMATS
    >>> NUMBER_FORMATS.named("int4-b32").bits
    4
    """

    def __init__(self, noun: str, group: str, kind: type[T], own: Iterable[T]) -> None:
        """noun: for messages. group: of entry points. kind: the class of every object.
        own: edgeq's, whose names are kept in `own`."""
        self.noun, self._group, self._kind = noun, group, kind
        self._items: dict[str, T] = {item.name: item for item in own}
        self.own = frozenset(self._items)
        self._packages: dict[str, str] = {}
        self._is_loaded = False

    @property
    def packages(self) -> dict[str, str]:
        """Version of each package that added objects, by name: results depend on it."""
        self._load()
        return dict(self._packages)

    def register(self, item: T) -> T:
        """Add an object; returns it. Raises InvalidInput if its name is taken."""
        self._load()
        self._add(item, self.noun)
        return item

    def unregister(self, name: str) -> None:
        """Remove an object."""
        self._load()
        del self._items[name]

    def named(self, name: str) -> T:
        """The object of that name. Raises InvalidInput, suggesting the nearest name."""
        if name in self:
            return self[name]
        what = f"{name!r} is not a known {self.noun}"
        raise InvalidInput(Problem(self.noun, what, suggest(name, self)))

    def __getitem__(self, name: str) -> T:
        if name not in self._items:  # edgeq's own are found without a search for packages
            self._load()
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(tuple(self._items))

    def __len__(self) -> int:
        self._load()
        return len(self._items)

    def _load(self) -> None:
        if self._is_loaded:
            return
        self._is_loaded = True  # first: a plugin's own import may read the registry
        try:
            for entry in entry_points(group=self._group):
                self._add(_loaded(entry), _place(entry))
                if entry.dist is not None:
                    self._packages[entry.dist.name] = entry.dist.version
        except InvalidInput:
            self._is_loaded = False
            raise

    def _add(self, item: T, where: str) -> None:
        if not isinstance(item, self._kind):
            what = f"{item!r} is not a {self._kind.__name__}"
            raise InvalidInput(Problem(where, what, f"give an instance of {self._kind.__name__}"))
        if self._items.get(item.name, item) != item:
            what = f"the {self.noun} {item.name!r} already exists"
            raise InvalidInput(Problem(where, what, "choose another name"))
        self._items[item.name] = item


def _place(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "an unnamed package"
    return f"{package}: entry point {entry.group}: {entry.name}"


def _loaded(entry: EntryPoint) -> T:  # type: ignore[type-var]
    try:
        item: T = entry.load()
    except Exception as error:  # a plugin's module may raise anything
        what = f"{entry.value} cannot be loaded: {type(error).__name__}: {error}"
        package = entry.dist.name if entry.dist else "it"
        remedy = f"update the package, or pip uninstall {package}"
        raise InvalidInput(Problem(_place(entry), what, remedy)) from error
    return item
