"""Names and their builders, found without importing anything heavy.

The key is the builder's own name: the target "baselines.networks.r2plus1d:r2plus1d_18" is `r2plus1d_18`. Targets come
from literal tuples in the built-in providers, from the entry points `vared_bench.networks` and `vared_bench.methods`
of installed packages (one that clashes is left out, with a line), or are named outright as "module:attr". A method on a
network is "method/network"; a network's name alone means its static form.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from bench.method import Method

PROVIDERS = ("baselines", "vared")
STATIC = "bench.static:static"
WEIGHTS = "weights"  # the option that every network takes, and every method without one
RESERVED = {"network", "frames", "size", "classes", "network_options"}  # given to builders by `build`, never options
OF_OPTIONS = (ValueError, TypeError, LookupError, ArithmeticError, SystemExit)  # what options that cannot be end in


class RegistryError(Exception):
    """A name, or an option of what it names, is not known, is not usable, or is registered twice."""


def networks() -> list[str]:
    """The registered networks."""
    return sorted(name for name, (kind, _) in _entries().items() if kind == "network")


def methods() -> list[str]:
    """The registered methods; those that wrap a network are used as "method/network"."""
    return sorted(name for name, (kind, _) in _entries().items() if kind == "method")


def hold(name: str) -> None:
    """Holds a method named outright, "module:attr", against what can be imported.

    Raises:
        RegistryError: it cannot be imported, or called.
    """
    _load(name)


def network(name: str) -> Callable[..., nn.Module]:
    """The builder of a network: builder(frames, size, classes, **options) -> module on clips (B, C, T, H, W).

    Raises:
        RegistryError: no such network.
    """
    builder: Callable[..., nn.Module] = _load(_target(name, "network"))
    return builder


def build_network(name: str, *, frames: int, size: int, classes: int, **options: Any) -> nn.Module:
    """Builds a network as a plain module.

    Every network takes the option `weights` besides its own: a file of `weights import` or `export` to start from.

    Raises:
        RegistryError: an unknown name or option, or a value that the builder refuses.
        WeightsError: the weights do not fit.
    """
    builder = network(name)
    named = WEIGHTS in options
    weights = options.pop(WEIGHTS, "")
    if not isinstance(weights, str):
        raise RegistryError(f"{name}: weights: {weights!r} is no path")
    _check_network_options(name, builder, options)
    try:
        built = builder(frames, size, classes, **options)
    except (*OF_OPTIONS, RuntimeError) as error:
        raise RegistryError(_refusal(name, error, options)) from error
    if named:
        from bench.weights import load  # brings torch, which listing must not

        load(built, name, Path(weights))
    return built


def build(
    name: str,
    *,
    frames: int,
    size: int,
    classes: int,
    network_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Method:
    """Builds "network" (its static form), "method" or "method/network" for clips of `frames` x `size` x `size`.

    network_options: go to the network under the method; a method that wraps none has no use for them. It takes the
    option `weights` itself, a file as of networks or several, for those of its parts that can start from them.

    Raises:
        RegistryError: an unknown name or option, a network where none fits, or what was built is not a `Method`.
        WeightsError: the weights do not fit.
    """
    method, under = _split(name)
    builder = _load(_target(method, "method"))
    weights = options.pop(WEIGHTS, ()) if under is None else ()
    _check_options(under if method == "static" and under else method, builder, options, _taken(under))
    given: dict[str, Any] = {"frames": frames, "size": size, "classes": classes, **options}
    if under is not None:
        theirs = {key: value for key, value in (network_options or {}).items() if key != WEIGHTS}
        _check_network_options(under, network(under), theirs)
        given |= {"network": under, "network_options": dict(network_options or {})}
    try:
        built = _checked(name, builder(**given))
    except OF_OPTIONS as error:
        raise RegistryError(_refusal(name, error, {**(network_options or {}), **options})) from error
    if weights:
        _start(built, name, weight_files(name, weights))
    return built


def weight_files(name: str, given: Any) -> list[Path]:
    """The files that the option `weights` names: one, or a list.

    Raises:
        RegistryError: something else was given.
    """
    files = [given] if isinstance(given, str) else given
    if not isinstance(files, list | tuple) or not all(isinstance(file, str) for file in files):
        raise RegistryError(f"{name}: weights: {given!r} is no path")
    return [Path(file) for file in files]


def by_content(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they stand in records: for the files of weights to start from, which may change, what is in them.

    Raises:
        RegistryError: what is given as weights is no path.
        OSError: a file cannot be read.
    """
    if WEIGHTS not in options:
        return dict(options)
    contents = (file.read_bytes() for file in weight_files(name, options[WEIGHTS]))
    return {**options, WEIGHTS: ",".join(f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents)}


def without_start(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options but for weights to start from."""
    return {key: value for key, value in options.items() if key != WEIGHTS}


def short(start: object) -> str:
    """Weights to start from, as `by_content` has them, in few letters for people."""
    return "+".join(part.removeprefix("sha256:")[:6] for part in str(start).split(","))


def under(name: str) -> str | None:
    """The network under a method, of a static form the network itself; None of a method that stands on none.

    Raises:
        RegistryError: see `build`.
    """
    return _split(name)[1]


def _start(method: Method, name: str, files: list[Path]) -> None:
    from dataclasses import replace

    from bench.weights import load_parts  # brings torch, which listing must not

    mean, std = load_parts(method, name, files)
    method.spec = replace(method.spec, mean=mean, std=std)


def split_options(name: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options given in one heap, as (network's, method's): the network takes those that its builder names."""
    _, under = _split(name)
    accepted = _taken(under)
    theirs = {key: value for key, value in options.items() if key in accepted}
    return theirs, {key: value for key, value in options.items() if key not in accepted}


def network_options() -> set[str]:
    """Every option that some registered network takes; one of others' that cannot be imported has no say."""
    known: set[str] = set()
    outside = _outside({})
    for name in networks():
        try:
            known |= _options(network(name))[0]
        except RegistryError as error:
            if name not in outside:
                raise
            _warn(f"network {name} is left out: {error}")
    return known


def weights(network: str) -> Callable[..., dict[str, Any]]:
    """What imports public weights of a network: importer(file, out, classes=None, options=None) -> what they are.

    Raises:
        RegistryError: no weights of such a network are known.
    """
    providers = map(import_module, PROVIDERS)
    targets = [target for provider in providers for target in getattr(provider, "WEIGHTS", ())]
    importers = {target.rpartition(":")[2]: target for target in targets}
    if network not in importers:
        raise _unknown("public weights of", network, importers)
    importer: Callable[..., dict[str, Any]] = _load(importers[network])
    return importer


def _entries() -> dict[str, tuple[str, str]]:
    """Name -> (kind, target). Networks and methods share one namespace, since either may stand alone."""
    table: dict[str, tuple[str, str]] = {}
    for kind, target in _targets():
        name = target.rpartition(":")[2]
        if name in table:
            raise RegistryError(f"{name!r} is registered twice: by {table[name][1]} and by {target}")
        table[name] = (kind, target)
    return table | _outside(table)


def _outside(taken: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """As `_entries`, what other packages offer, but for what clashes: theirs must not stop everybody's commands."""
    offers = [(kind, entry) for kind in ("network", "method") for entry in _installed(f"vared_bench.{kind}s")]
    count = Counter(entry.attr for _, entry in offers)
    found = {}
    for kind, entry in offers:
        if entry.attr in taken or count[entry.attr] > 1:
            by = taken[entry.attr][1] if entry.attr in taken else "another package"
            package = entry.dist.name if entry.dist else entry.module
            _warn(f"{entry.value} of {package} is left out: the name {entry.attr!r} is registered by {by} too")
        else:
            found[entry.attr] = (kind, f"{entry.module}:{entry.attr}")
    return found


@cache
def _warn(line: str) -> None:
    """Says it once, on standard error."""
    print(f"warning: {' '.join(line.split())}", file=sys.stderr, flush=True)


def _targets() -> Iterator[tuple[str, str]]:
    yield "method", STATIC
    for provider in map(import_module, PROVIDERS):
        yield from (("network", target) for target in provider.NETWORKS)
        yield from (("method", target) for target in provider.METHODS)


@cache
def _installed(group: str) -> tuple[EntryPoint, ...]:
    """What other packages offer; looked up once, since that reads every package's metadata."""
    return tuple(entry_points(group=group))


def _split(name: str) -> tuple[str, str | None]:
    """The method and the network under it, if any.

    Raises:
        RegistryError: an unknown name, a file's, a network missing or too much, or a second name for a static form.
    """
    method, slash, under = name.partition("/")
    entries = _entries()
    if method not in entries:
        _hold_no_file(name)
    if not slash:
        if ":" not in name and name not in entries:
            raise _unknown("network or method", name, entries)
        method, under = ("static", name) if entries.get(name, ("method",))[0] == "network" else (name, "")
    elif method == "static" and under in entries:
        raise RegistryError(f"the static form of {under} is named {under!r}, not {name!r}")
    wraps = "network" in inspect.signature(_load(_target(method, "method"))).parameters
    if wraps and not under:
        raise RegistryError(f"{method} wraps a network: name it as {method}/NETWORK; there are {', '.join(networks())}")
    if under and not wraps:
        raise RegistryError(f"{method} does not wrap a network: name it without /{under}")
    return method, under or None


def _target(name: str, kind: str) -> str:
    if ":" in name:
        return name
    entries = {key: target for key, (its_kind, target) in _entries().items() if its_kind == kind}
    if name not in entries:
        raise _unknown(kind, name, entries)
    return entries[name]


def _hold_no_file(target: str) -> None:
    """Refuses a path in place of a module.

    Raises:
        RegistryError: it is one; says what to name.
    """
    if file := re.fullmatch(r"(?:.*/)?([^/]+)\.py:([^/]*)", target):
        raise RegistryError(f"{target} is a file: name its module, {file[1]}:{file[2]}, and run this in its folder")


def _load(target: str) -> Any:
    """Imports what "module:attr" names; a module of outside code may fail in any way, which is its own line."""
    _hold_no_file(target)
    module, _, attribute = target.partition(":")
    try:
        found = reduce(getattr, attribute.split("."), import_module(module))
    except (Exception, SystemExit) as error:  # a script that ends the program must not end this one
        raise RegistryError(f"{target} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise RegistryError(f"{target} is not a builder: it cannot be called")
    return found


def _options(builder: Callable[..., Any]) -> tuple[set[str], bool]:
    """The options that a builder names, and whether it takes any others too."""
    parameters = inspect.signature(builder).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named - RESERVED, any(p.kind == p.VAR_KEYWORD for p in parameters)


def _taken(under: str | None) -> set[str]:
    """The options that the network under a method takes."""
    return _options(network(under))[0] | {WEIGHTS} if under is not None else set()


def _check_network_options(name: str, builder: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """As `_check_options`; a network's lists say something of each of its parts, so that none is empty."""
    _check_options(name, builder, options)
    for option, value in options.items():
        if isinstance(value, list | tuple) and not value:
            raise RegistryError(f"{name}: {_said({option: value})}: must not be empty")


def _check_options(
    name: str, builder: Callable[..., Any], options: Mapping[str, Any], beside: Iterable[str] = ()
) -> None:
    """Holds names and values of options against a builder. beside: other options that may have been meant."""
    named, any_other = _options(builder)
    for option in options:
        if option in RESERVED or (option not in named and not any_other):
            raise _unknown(f"{name} option", option, (named | {*beside}) - {option})
    if options:
        from bench.option_values import fault_of  # brings pydantic, which listing must not

        for option, value in options.items():
            if fault := fault_of(builder, option, value):
                raise RegistryError(f"{name}: {_said({option: value})}: {fault}")


def _refusal(name: str, error: BaseException, options: Mapping[str, Any]) -> str:
    """What a builder raised, in one line, with the options that it got."""
    words = " ".join(str(error).split())[:300]  # torch tells its own stack as well
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{name}: {kind}{words}" + (f" (given {_said(options)})" if options else "")


def _said(options: Mapping[str, Any]) -> str:
    """Options as they are given on the command line."""
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in options.items()}
    return ", ".join(f"{key}={text}" for key, text in texts.items())


def _checked(name: str, built: Any) -> Method:
    from bench.method import Method  # brings torch, which listing must not

    if not isinstance(built, Method):
        raise RegistryError(f"{name} built {type(built).__name__}, not a bench.method.Method")
    if type(built.revision) is not int:
        raise RegistryError(f"{name}: revision must be a whole number, not {built.revision!r}")
    return built


def _unknown(what: str, name: str, known: Collection[str]) -> RegistryError:
    from bench.faults import hint  # brings pydantic, which listing must not

    return RegistryError(f"no {what} {name!r}; {hint(name, known)}")
