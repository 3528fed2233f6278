"""From a public checkpoint to one of ours: read without running code, rename, hold against the network, write."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from baselines.weights.layouts import EVERY, Layout
from bench import registry
from bench.weights import WeightsError, write

COUNTER = ".num_batches_tracked"
WRAPPERS = ("state_dict", "model_state", "model")  # under which TSM and IBM, PyTorchVideo, and torchvision save
CLIP = {"frames": 16, "size": 224}  # no weights of these networks depend on them


@dataclass(frozen=True)
class Source:
    """What a file holds: its tensors, the name it gives its network ("" where it gives none), and its digest."""

    state: Mapping[str, Tensor]
    arch: str
    sha256: str


@dataclass(frozen=True)
class Converted:
    """A network's whole state; counted: whether the file had the counters of normalisations, which are 0 if not."""

    state: dict[str, Tensor]
    layout: Layout
    classes: int
    parameters: int
    counted: bool


def import_weights(
    network: str,
    layouts: Sequence[Layout],
    file: Path,
    out: Path,
    *,
    classes: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the weights in `file` to `out`, as safetensors with the names of `network`; says what they are.

    layouts: those that `network` takes; the file's is found by its keys. classes: what the file must have; None:
    whatever it has. options: of the network, where it is not the public one (blocks of a ResNet-101).

    Raises:
        WeightsError: the file holds code, is broken, is of another network, layout or shape; nothing is written.
    """
    if out.resolve() == file.resolve():
        raise WeightsError(f"{out}: the imported weights need a file of their own")
    try:
        source = read(file)
        found = convert(network, layouts, source, classes=classes, options=options)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from None
    mean, std = found.layout.normalisation
    said = {
        "network": network,
        "options": dict(options or {}),
        "classes": found.classes,
        "parameters": found.parameters,
        "layout": found.layout.name,
        "normalisation": {"mean": list(mean), "std": list(std)},
        "num_batches_tracked": "from the file" if found.counted else "0 where the file has none",
        "source_sha256": source.sha256,
    }
    return write(out, found.state, said)


def read(file: Path) -> Source:
    """A state dict from a safetensors file or from what `torch.save` wrote, also inside a training checkpoint.

    Raises:
        WeightsError: it cannot be read without running code, or holds something else.
    """
    data = file.read_bytes()
    content = _content(data)
    arch = content.get("arch", "")
    state = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.is_meta:
            raise WeightsError(f"not a state dict: its entry {key!r} is no tensor with values")
    if all(key.startswith("module.") for key in state):  # DataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return Source(state, arch if isinstance(arch, str) else "", hashlib.sha256(data).hexdigest())


def _content(data: bytes) -> dict[Any, Any]:
    """What a file's bytes hold, as long as that is a dictionary that can be read without running code."""
    try:
        if data[8:9] == b"{":  # the header of safetensors, after its length
            return dict(safetensors.torch.load(data))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that are refused below
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or foreign file provokes; torch's text advises to run the code
        code = re.search(r"GLOBAL (\S+)", str(error))
        why = f"holds {code[1]}, more than tensors" if code else "broken, or no state dict"
        raise WeightsError(f"cannot be read without running code: {why}; save a state dict alone") from None
    if not isinstance(content, dict):
        raise WeightsError(f"not a state dict but a {type(content).__name__}")
    return content


def convert(
    network: str,
    layouts: Sequence[Layout],
    source: Source,
    *,
    classes: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Converted:
    """The state of `network` from a source in one of `layouts`; arguments as of `import_weights`.

    Raises:
        WeightsError: it is of another network or layout, keys are left over on either side, or shapes differ.
        RegistryError: the network does not take such options.
    """
    layout = _recognised(network, layouts, source)
    ours = {theirs: layout.ours(theirs) for theirs in source.state}
    rows = [source.state[key].shape for key, name in ours.items() if name == f"{layout.head}.weight"]
    classes = classes or (rows[0][0] if rows and len(rows[0]) else 1)
    with torch.device("meta"):
        module = registry.build_network(network, **CLIP, classes=classes, **(options or {}))
    theirs = _paired(network, ours, module)
    state, wrong = {}, []
    for name, wanted in module.state_dict().items():
        given = source.state[theirs[name]] if name in theirs else torch.zeros(wanted.shape, dtype=wanted.dtype)
        of_images = name.startswith("network.") and wanted.dim() == 5 and given.dim() == 4
        value = given.unsqueeze(2) if of_images else given
        if _kind(value) == _kind(wanted):
            state[name] = value.detach().to(wanted.dtype, copy=True).contiguous()
        else:
            wrong.append(f"{theirs[name]} is {_kind(given)} in the file and {_kind(wanted)} in {network}")
    if wrong:
        raise WeightsError(f"{'; '.join(wrong[:3])} with {classes} classes{_and_more(wrong)}")
    parameters = sum(weight.numel() for weight in module.parameters())
    return Converted(state, layout, classes, parameters, counted=len(theirs) == len(state))


def _recognised(network: str, layouts: Sequence[Layout], source: Source) -> Layout:
    """The layout of a source, if the network takes it.

    Raises:
        WeightsError: it does not, or nobody knows the layout.
    """
    takes = f"{network} takes {' or '.join(layout.name for layout in layouts if not layout.differs)}"
    layout = next((layout for layout in EVERY if layout.mark in source.state), None)
    if layout is None:
        raise WeightsError(f"its keys ({_some(list(source.state)) or 'none'}) are of no known layout; {takes}")
    if layout not in layouts:
        raise WeightsError(f"these are weights of {layout.name}; {takes}")
    if layout.differs:
        raise WeightsError(f"weights of {layout.name} cannot be imported: {layout.differs}")
    if source.arch and layout.arch not in source.arch:
        raise WeightsError(f"its network is {source.arch!r}, not one with {layout.arch!r} in its name as {network} is")
    return layout


def _paired(network: str, ours: Mapping[str, str | None], module: nn.Module) -> dict[str, str]:
    """For every tensor of ours, its key in the file; only counters may be without one.

    Raises:
        WeightsError: keys are left over on either side.
    """
    wanted, paired, left = module.state_dict(), dict[str, str](), []
    for key, name in ours.items():
        if name is None or name not in wanted or name in paired:
            left.append(key)
        else:
            paired[name] = key
    missing = [name for name in wanted if name not in paired and not name.endswith(COUNTER)]
    said = [f"{len(left)} of its keys have no place in {network} ({_some(left)})"] if left else []
    said += [f"{len(missing)} of {network} are not in it ({_some(missing)})"] if missing else []
    if said:
        raise WeightsError(f"not the weights of {network}: {', and '.join(said)}")
    return paired


def _kind(value: Tensor) -> str:
    """What cannot be converted in a tensor: its shape, and more where it is not plain numbers."""
    plain = value.layout == torch.strided and not value.is_quantized and not value.is_complex()
    kind = "" if plain and value.is_floating_point() else f" {value.dtype}"
    return f"{tuple(value.shape)}{kind}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _and_more(names: Sequence[str]) -> str:
    return f", and {len(names) - 3} more differ" if len(names) > 3 else ""
