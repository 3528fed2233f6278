"""The kernels compile to machine code for GPUs that need not be there; they are not run.

`nox -s tests -- tests/benchmarks/test_kernels_compile.py`
"""

from __future__ import annotations

from typing import Any

import pytest

from vared.runtime.decided import BLOCKS, Blocks

triton = pytest.importorskip("triton")
kernels = pytest.importorskip("vared.runtime.kernels")
SIZES = {"fp32": 4, "bf16": 2, "fp16": 2}
ALIGNED = (
    "x",
    "weight",
    "out",
    "x_sample",
    "x_frame",
    "x_pitch",
    "out_sample",
    "out_frame",
    "out_pitch",
    "w_option",
    "w_pitch",
)


def compiled(
    kernel: Any, dtype: str, constants: dict[str, Any], blocks: Blocks, capability: int, ones: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What a kernel becomes whose tensors are of `dtype`; counts are int32, and so are sizes.

    ones: the sizes that are 1, which Triton takes for constants.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    integers = {"steps": "*i32", "tally": "*i32", "x_steps": "*i32"}
    floats = "x weight bias out x_weights out_weights scales other weights".split()
    constants = constants | dict.fromkeys(ones, 1)
    known = dict.fromkeys(constants, "constexpr") | integers | dict.fromkeys(floats, f"*{dtype}")
    names = kernel.arg_names
    signature = {name: known.get(name, "i32") for name in names}
    aligned = {
        (place,): [["tt.divisibility", 16]] for place, name in enumerate(names) if name in ALIGNED and name not in ones
    }
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=aligned)
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    assembly: dict[str, Any] = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm
    return assembly


def constants_of(dtype: str, precision: str, blocks: Blocks, stored: bool) -> dict[str, Any]:
    """Of a convolution over time of what is stored, or over places of what is whole."""
    kernel, padding = ((3, 1, 1), (1, 0, 0)) if stored else ((1, 3, 3), (0, 1, 1))
    constants = dict(zip(("KT", "KH", "KW", "PT", "PH", "PW"), (*kernel, *padding), strict=True))
    constants |= dict.fromkeys(("ST", "SH", "SW", "DH", "DW", "RUN"), 1)
    constants |= dict.fromkeys(("X_CHANNELS", "X_FRAMES"), 2 if stored else 1)
    constants |= {
        "OUT_CHANNELS": 2,
        "OUT_FRAMES": 2,
        "X_UNIT": 16,
        "OUT_UNIT": 16,
        "STORED": stored,
        "INHERITS": False,
        "RELU": True,
    }
    constants |= {"ROWS": blocks.rows, "COLUMNS": blocks.columns, "DEPTH": blocks.depth_bytes // SIZES[dtype]}
    constants |= {"PRECISION": precision, "INTERPRETED": False, "TALLY": False}
    return constants


STEM = {"KH": 7, "KW": 7, "PH": 3, "PW": 3, "SH": 2, "SW": 2, "RUN": 7, "OUT_CHANNELS": 3, "OUT_FRAMES": 3}
POINT = {"KT": 1, "PT": 0, "INHERITS": True, "X_CHANNELS": 3, "X_FRAMES": 3, "OUT_CHANNELS": 1, "OUT_FRAMES": 1}
IMAGE = {"KT": 1, "PT": 0, "INHERITS": True, "X_FRAMES": 1, "OUT_FRAMES": 1}
PLACES = ("height_in", "width_in", "height_out", "width_out")
SINGLE = ("frames_in", "frames_out", *PLACES, "channels_in", "channels_out", "x_pitch", "x_row", "x_split", "out_split")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("stored", "other", "ones"),
    [
        (False, STEM, ()),
        (True, POINT, ()),
        (True, POINT | {"ST": 2, "SH": 2, "SW": 2}, ()),
        (True, IMAGE, ("frames_in", "frames_out")),
        (True, {}, SINGLE),
    ],
)
def test_every_kind_of_convolution_compiles(
    dtype: str, stored: bool, other: dict[str, Any], ones: tuple[str, ...]
) -> None:
    constants = constants_of(dtype, "ieee", BLOCKS[0], stored) | other
    assert compiled(kernels.convolve, dtype, constants, BLOCKS[0], 90, ones)["cubin"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("unit", "wide"), [(1, False), (16, True)])
def test_channels_that_halve_evenly_are_read_sixteen_bytes_at_once(dtype: str, unit: int, wide: bool) -> None:
    """While the products of the step before are computed: asynchronous copies to shared memory."""
    constants = constants_of(dtype, "ieee", BLOCKS[0], True) | {"X_UNIT": unit, "OUT_UNIT": unit}
    code = compiled(kernels.convolve, dtype, constants, BLOCKS[0], 90)["ptx"]
    copies = [line for line in code.splitlines() if "cp.async" in line and ", 0x10" in line]
    assert bool(copies) is wide


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "precision"), [("fp32", "ieee"), ("fp32", "tf32"), ("bf16", "ieee"), ("fp16", "ieee")]
)
@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("stored", [False, True])
def test_a_convolution_compiles(capability: int, dtype: str, precision: str, blocks: Blocks, stored: bool) -> None:
    constants = constants_of(dtype, precision, blocks, stored)
    assert compiled(kernels.convolve, dtype, constants, blocks, capability)["cubin"]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("added", [False, True])
def test_rebuilding_compiles(capability: int, dtype: str, added: bool) -> None:
    constants = {"CHANNELS": 2, "FRAMES": 2, "ADDED": added, "ROWS": BLOCKS[0].rows, "COLUMNS": BLOCKS[0].columns}
    assert compiled(kernels.rebuild, dtype, constants, BLOCKS[0], capability)["cubin"]
