"""What `test_distributed.py` runs under torchrun: trains and scores a small network, and writes what came out."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from toys import ToySplit

from baselines.networks.segmenter import VOID, Segmentation
from bench import registry
from bench.cost import CountError
from bench.data.sampling import Sampling
from bench.distributed import average_values, first, in_turns, joined, place
from bench.evaluation import score
from bench.method import Method, Recipe
from bench.profiles import Views
from bench.training import train
from bench.whole_batch import synced_norms

SMALL = {"width": 4, "blocks": (1, 1, 1, 1), "stem": (3, 3, 3)}
RECIPE = Recipe(epochs=3, batch=8, lr=0.05)


def built(name: str) -> Method:
    """In double precision, in which rounding does not grow to differences that could hide real ones."""
    torch.manual_seed(0)
    method = registry.build(name, frames=4, size=8, classes=3, network_options=SMALL).double()
    for part in method.children():
        part.register_forward_pre_hook(lambda module, args: (args[0].double(), *args[1:]))
    return method


def faulty(number: int) -> int:
    if number == 3:
        raise CountError("item 3")
    return number


def half_precision() -> None:
    """Normalisation over all processes in bf16 is that of the whole batch, to the precision of bf16."""
    torch.manual_seed(5)
    norm, whole = torch.nn.BatchNorm3d(4), torch.randn(8, 4, 2, 3, 3) * 5 + 20
    expected = copy.deepcopy(norm)(whole)
    rank, size = place()
    with synced_norms(norm), torch.autocast("cpu", torch.bfloat16):
        found = norm(whole[rank::size].bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected[rank::size], rtol=0.05, atol=0.1)


def masks() -> None:
    """The mean over pixels that are not void is of all processes' pixels, where these have unequal numbers of them."""
    generator = torch.Generator().manual_seed(6)
    whole = torch.randn(8, 3, 2, 2, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (8, 2, 2), generator=generator)
    target[0], target[1, 0] = VOID, VOID
    rank, size = place()
    found = Segmentation().loss(whole[rank::size], target[rank::size])
    expected = torch.nn.functional.cross_entropy(whole, target, ignore_index=VOID)
    torch.testing.assert_close(torch.tensor(average_values({"loss": float(found)})["loss"]).double(), expected)


def scored(method: Method, file: Path) -> str:
    """Writes the per-sample table; gives the figures and what ran."""
    found = score(method, ToySplit(30), Sampling(), Views(clips=2, crops=3), batch=4)
    if first():
        found.samples.to_parquet(file, index=False)
    return repr((dict(found.figures), found.executed))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for stop_after in (4, None):  # interrupted, and resumed
        method = built("r2plus1d_18")
        train(method, ToySplit(), Sampling(), RECIPE, 0, folder, log_every=1, stop_after=stop_after)
    if first():
        torch.save(method.state_dict(), folder / "weights.pt")
    trained = folder.parent / "trained.pt"
    if trained.exists():  # of one process: what is scored are the same weights
        method.load_state_dict(torch.load(trained, weights_only=True))
    figures = [scored(method, folder / "static.parquet"), scored(built("vared/r2plus1d_18"), folder / "vared.parquet")]
    order = list(in_turns(lambda rank, size: range(rank, 7, size), str))
    assert order == [str(number) for number in range(7)], order
    try:  # what is wrong in one is raised in all, as what it is
        list(in_turns(lambda rank, size: range(rank, 7, size), faulty))
        raise AssertionError("nothing was raised")
    except CountError as error:
        assert str(error) == "item 3"
    half_precision()
    masks()
    if first():
        (folder / "figures.txt").write_text("\n".join(figures) + f"\n{place()[1]}")


if __name__ == "__main__":
    with joined():
        main(Path(sys.argv[1]))
