"""CGNet: gates in closed form, the published accounting, and what really is skipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import ToySplit

from baselines.cgnet.gated_conv import GatedConv, Session, divide
from baselines.cgnet.method import CGNet, Training, cgnet
from bench.conformance import check, check_training
from bench.cost import Counter
from bench.data.sampling import Sampling
from bench.method import Batch, InputSpec, Recipe
from bench.policy import Forced, everything, fixed, matched
from bench.static import static

SMALL: dict[str, Any] = {"frames": 4, "size": 16, "classes": 5, "network_options": {"width": 8, "blocks": (1, 1)}}


def test_half_precision_stays_half() -> None:
    method = tiny().bfloat16()
    found = method(torch.randn(2, 3, 4, 16, 16, dtype=torch.bfloat16))
    assert found.logits is not None and found.logits.dtype == torch.bfloat16 and bool(found.logits.isfinite().all())


def tiny(network: str = "r2plus1d_18", seed: int = 0, **options: Any) -> CGNet:
    """In double precision, with thresholds at which the gates of different samples differ."""
    torch.manual_seed(seed)
    method = cgnet(network, **{**SMALL, **options}).double().eval()
    for unit in method.units:
        unit.norm.running_var.fill_(0.1)
        nn.init.normal_(unit.threshold, 0.0, 1.5)
    return method


def clips(method: CGNet, count: int = 4) -> Tensor:
    """Samples whose parts differ in contrast, so that whole positions and channels close in some of them."""
    sample = torch.randn(method.spec.shape(count), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sample[:, :, :, : method.spec.size // 2] *= torch.linspace(0, 3, count).view(-1, 1, 1, 1, 1)
    return sample


@torch.no_grad()
def executed(method: CGNet, sample: Tensor, policy: Forced | None = None) -> tuple[list[int], list[int]]:
    """What ran for each sample, and what was accounted."""
    with Counter(method, batch=len(sample)) as counter:
        prediction = method(sample, policy)
    return list(counter.result().per_sample), prediction.cost.tolist()


def unit(conv: nn.Conv2d | nn.Conv3d, positions: int, **options: Any) -> GatedConv:
    given = {"groups": 4, "grouped": False, "shuffle": False, "alpha": 2.0, **options}
    return GatedConv("unit", conv, positions, Session(), **given).eval()


FORMS = [
    {},
    {"groups": 2},
    {"grouped": True},
    {"shuffle": True},
    {"grouped": True, "shuffle": True},
]


def test_blocks_of_channels() -> None:
    first = divide(8, 6, 4, grouped=False, shuffle=False)
    assert [(part.outputs, part.base, part.rest) for part in first] == [(slice(0, 6), slice(0, 2), slice(2, 8))]
    half = divide(4, 6, 2, grouped=True, shuffle=False)
    assert [(part.outputs, part.base, part.rest) for part in half] == [
        (slice(0, 3), slice(0, 2), slice(2, 4)),
        (slice(3, 6), slice(2, 4), slice(0, 2)),
    ]
    shuffled = F.channel_shuffle(torch.arange(8.0).view(1, 8, 1, 1), 2).flatten().tolist()
    parts = divide(8, 2, 2, grouped=True, shuffle=True)
    assert [part.base for part in parts] == [sorted(shuffled[:4]), sorted(shuffled[4:])]


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv3d(8, 12, (3, 3, 2), (2, 1, 2), (1, 0, 1), (1, 2, 1), bias=True),
        nn.Conv2d(8, 12, 3, 2, 1, bias=False),
        nn.Conv3d(8, 12, 1, bias=False),
    ],
)
def test_a_value_is_the_base_path_or_the_plain_convolution(conv: nn.Conv3d, options: dict[str, Any]) -> None:
    """y = d · conv(x, W) + (1 − d) · conv(x, W ⊙ M), whichever way the gates are executed."""
    torch.manual_seed(0)
    conv = conv.double()
    x = torch.randn(5, 8, *(5, 9, 8)[-conv.weight.dim() + 2 :], dtype=torch.float64)
    plain, bias = conv(x), 0 if conv.bias is None else conv.bias.view(1, -1, 1, 1, 1)
    gated = unit(conv, plain[0, 0].numel(), **options)
    mask = torch.zeros_like(conv.weight)
    for part in gated.parts:
        mask[part.outputs][:, part.base] = 1
    arguments = (None, conv.stride, conv.padding, conv.dilation)
    base = (F.conv3d if x.dim() == 5 else F.conv2d)(x, conv.weight * mask, *arguments)
    gates = torch.rand_like(plain) < 0.5
    gates[1] = False
    gates[2, ::2] = False  # whole channels
    gates[3, ..., ::2, :] = False  # whole positions
    gates[4, :, ..., 1:, :] = False
    for dense in (False, True):
        gated.session.start(Forced({"unit": gates.double()}), dense=dense)
        y = gated(x)
        assert torch.allclose(y, torch.where(gates, plain, base + bias), atol=1e-12)
        assert torch.equal(gated.session.trace["unit"] > 0, gates)


def test_gates_open_above_the_threshold_and_pass_the_sigmoids_gradient() -> None:
    torch.manual_seed(0)
    gated = unit(nn.Conv2d(4, 3, 3, padding=1, bias=False).double(), 36).train()
    gated.threshold.data.copy_(torch.tensor([-0.5, 0.0, 0.5]))
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    gated.session.start(gated.session.policy, dense=True)
    y = gated(x)
    base = F.conv2d(x[:, :1], gated.weight[:, :1], padding=1)
    rest = F.conv2d(x[:, 1:], gated.weight[:, 1:], padding=1)
    z = (base - base.mean((0, 2, 3), True)) / (base.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    excess = z - gated.threshold.view(-1, 1, 1)
    assert torch.equal(gated.session.trace["unit"] > 0, torch.sigmoid(2 * excess) > 0.5)
    (slope,) = torch.autograd.grad(y.sum(), gated.threshold)
    s = torch.sigmoid(2 * excess)
    assert torch.allclose(slope, -(rest * 2 * s * (1 - s)).sum((0, 2, 3)))


def test_keeps_the_promises_of_a_method() -> None:
    method = tiny()
    gates = method(clips(method)).trace
    assert all(rows.any() and not rows.all() for rows in gates.values())
    assert all((rows[0] != rows[1:]).any() for rows in gates.values())
    assert check(method, clips(method), dense=method.static_macs) == []


@pytest.mark.parametrize("options", FORMS)
def test_executed_lies_between_accounted_and_dense(options: dict[str, Any]) -> None:
    method = tiny(**options)
    sample = clips(method)
    ran, told = executed(method, sample)
    assert all(a < e < method.static_macs for a, e in zip(told, ran, strict=True))
    alone = [executed(method, row[None])[0][0] for row in sample]
    assert ran == alone  # each sample bears its own


def test_closed_channels_positions_and_layers_do_not_run() -> None:
    conv = nn.Conv3d(8, 40, 3, padding=1, bias=False)
    gated = unit(conv, 64)
    x, dense, base = torch.randn(4, 8, 4, 4, 4), 40 * 64 * 8 * 27, 40 * 64 * 2 * 27
    gates = torch.zeros(4, 40, 4, 4, 4)
    gates[1, :10, 0, 0, ::2] = 1  # ten channels at two places: twenty values, gathered
    gates[2, 7:9] = gates[2, :, 0, 0, 0] = 1  # every channel at one place, two of them everywhere: all
    gates[3, 5:15] = 1  # ten channels
    gated.session.start(Forced({"unit": gates}), dense=False)
    with torch.no_grad(), Counter(gated, batch=4) as counter:
        gated(x)
    taps = 6 * 27
    assert counter.result().per_sample == (base, base + 20 * taps, dense, base + 640 * taps)
    told = [base, base + 20 * taps, base + (2 * 64 + 38) * taps, base + 640 * taps]
    assert gated.session.macs["unit"].tolist() == told


@pytest.mark.parametrize("options", FORMS)
def test_all_open_is_the_plain_network(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain = static("r2plus1d_18", **SMALL).double().eval()
    method = tiny(**options)
    own = method.state_dict()
    method.load_state_dict({**own, **plain.state_dict()})  # the names of the network's weights are as they were
    assert set(plain.state_dict()) < set(own)
    sample = clips(method)
    with torch.no_grad():
        assert torch.allclose(method(sample, everything(method)).logits, plain(sample).logits, atol=1e-10)
    assert executed(method, sample, everything(method)) == ([plain.macs] * 4, [plain.macs] * 4)
    closed = fixed(method, dict.fromkeys(method.decisions(), 1))
    ran, told = executed(method, sample, closed)
    assert ran == told == method.account(closed.trace).tolist() * 4
    one = fixed(method, {method.units[1].point: 1})
    ran, told = executed(method, sample, one)
    assert ran == told == method.account(one.trace).tolist() * 4


def test_random_controls_have_the_cost_asked_for() -> None:
    method = tiny()
    wanted = round(0.7 * method.static_macs)
    policy = matched(method, wanted, tolerance=0.02)
    ran, told = executed(method, clips(method), policy)
    assert ran == told
    assert float(method.account(policy.trace).double().mean()) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(
    ("network", "frames", "size", "groups", "static_macs", "least", "gated"),
    [
        ("r2plus1d_18", 8, 128, 4, 27_524_567_040, 7_958_114_304, 30),
        ("r2plus1d_18", 8, 128, 2, 27_524_567_040, 14_299_385_856, 31),
        ("resnet18", 1, 224, 4, 1_814_073_344, 556_863_488, 16),
    ],
)
def test_published_accounting(
    network: str, frames: int, size: int, groups: int, static_macs: int, least: int, gated: int
) -> None:
    """Full size: dense where all is open, and 1/p of what is gated where all is closed."""
    classes = 1000 if network == "resnet18" else 200
    with torch.device("meta"):
        method = cgnet(network, frames=frames, size=size, classes=classes, network_options={}, groups=groups)
    decisions = method.decisions()
    assert len(method.units) == len(decisions) == gated
    costs = [int(method.account({p: o[option : option + 1] for p, o in decisions.items()})) for option in (0, 1)]
    assert costs == [static_macs, least] == [method.static_macs, method.static_macs - method.rest_macs]
    dense = sum(one.values * one.weight[0].numel() for one in method.units)
    assert method.rest_macs * groups == dense * (groups - 1)


@pytest.mark.parametrize(("groups", "density"), [(4, 0.812), (2, 0.718)])
def test_density_that_the_published_ratio_implies(groups: int, density: float) -> None:
    """VA-RED² Table 7, 23.8 of 27.7 GFLOPs: macs · (1/p + (1 − 1/p) · density) in a layer of a thousand values."""
    gated = unit(nn.Conv2d(8, 10, 3, bias=False), 100, groups=groups)
    gates = (torch.arange(1000).view(1, 10, 10, 10) < 1000 * density).float()
    assert int(gated.macs(gates)) / (1000 * 8 * 9) == pytest.approx(23.8 / 27.7, abs=5e-4)


def test_what_is_gated() -> None:
    names = [one.point for one in cgnet("resnet18", **SMALL).units]
    assert names == [f"network.layer{stage}.0.conv{number}" for stage in (1, 2) for number in (1, 2)]
    assert [one.point for one in cgnet("resnet18", **SMALL, which="conv1").units] == names[::2]
    pointwise = [one for one in cgnet("x3d_m", **SMALL, groups=2).units]  # its kernels are depthwise
    assert all(one.weight[0, 0].numel() == 1 and one.positions > 1 for one in pointwise)
    assert not any("shortcut" in one.point for one in pointwise)


class Image(nn.Module):
    """A network of 2D convolutions on the mean frame."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layers(x.mean(2)).mean((-2, -1)))
        return out


def test_two_dimensional_convolutions_are_gated() -> None:
    method = CGNet(Image(), InputSpec("clip", 10, 2)).double().eval()
    assert [tuple(rows.shape) for rows in method.decisions().values()] == [(2, 1, 1, 1)]
    assert check(method, clips(method), dense=method.static_macs) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": 1}, "groups must be 2 or more"),
        ({"alpha": 0.0}, "alpha above 0"),
        ({"weight": -1.0}, "weight 0 or more"),
        ({"groups": 5}, "no convolution whose channels 5 groups divide"),
        ({"which": "conv7"}, "no convolution named 'conv7'"),
        ({"budget": 0.2}, r"budget must be above 0\.\d+"),
        ({"budget": 1.2}, "at most 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cgnet("resnet18", **SMALL, **options)


TOY: dict[str, Any] = {"frames": 4, "size": 8, "classes": 3, "network_options": {"width": 8, "blocks": (1, 1)}}


def test_trains_whole_or_in_parts_and_keeps_its_promises_then() -> None:
    def rebuild() -> CGNet:
        return cgnet("r2plus1d_18", **TOY, budget=0.86)

    recipe = Recipe(epochs=3, batch=8, lr=0.05)
    assert check_training(rebuild, ToySplit(), Sampling(), recipe) == []


def test_calibration_meets_the_budget_on_videos_that_training_did_not_see() -> None:
    torch.manual_seed(0)
    method, split = cgnet("r2plus1d_18", **TOY, budget=0.86), ToySplit()
    train, calibration = method.stages(Recipe(epochs=3, batch=8))
    assert (train.epochs, calibration.epochs) == (2, 1)
    views = [stage.view(split) for stage in (train, calibration)]
    seen, held = (set(view.groups) for view in views)
    assert seen | held == set(split.groups) and not seen & held
    assert len(views[1]) >= 8  # a tenth of 24 videos does not fill a batch
    for unit in method.units:
        nn.init.normal_(unit.threshold)
    before = [unit.threshold.clone() for unit in method.units]
    sample = torch.randn(method.spec.shape(8))
    calibration.begin(2)
    for _ in range(2):
        calibration.step(Batch(sample, torch.zeros(8), torch.arange(8)))
    calibration.end()
    moved = torch.cat([unit.threshold - old for unit, old in zip(method.units, before, strict=True)])
    assert torch.allclose(moved, moved[0].expand(len(moved)), atol=1e-6)
    cost = method.eval()(sample).cost.double().mean()
    assert float(cost) / method.static_macs == pytest.approx(0.86, abs=0.005)


def test_recipes_of_any_length_and_without_a_budget() -> None:
    plain, budgeted = cgnet("r2plus1d_18", **TOY), cgnet("r2plus1d_18", **TOY, budget=0.86)
    assert [stage.epochs for stage in plain.stages(Recipe(epochs=5))] == [5]
    assert [stage.epochs for stage in budgeted.stages(Recipe(epochs=1))] == [1]
    assert plain.target == 1.0 and not any(one.threshold.any() for one in plain.units)
    assert budgeted.target < 0 and all((one.threshold == budgeted.target).all() for one in budgeted.units)


def test_steps_lower_the_loss_and_reach_every_parameter() -> None:
    torch.manual_seed(0)
    method = cgnet("r2plus1d_18", **TOY, weight=0.01)
    batch = Batch(torch.randn(method.spec.shape(6)), torch.arange(6) % 3, torch.arange(6))
    (stage,) = method.stages(Recipe(epochs=1, lr=0.05, warmup=0.0))
    assert isinstance(stage, Training)
    stage.begin(100)
    losses = [stage.step(batch)["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]
    assert all(weight.grad is not None and weight.grad.any() for weight in method.parameters())
    assert [group["weight_decay"] for group in stage.optimiser.param_groups] == [5e-4, 0.0]
    assert {id(p) for p in stage.optimiser.param_groups[1]["params"]} == {id(one.threshold) for one in method.units}


def test_the_loss_draws_thresholds_to_their_target() -> None:
    torch.manual_seed(0)
    method = cgnet("r2plus1d_18", **TOY, weight=0.5, target=0.6)
    batch = Batch(torch.randn(method.spec.shape(2)), torch.arange(2), torch.arange(2))
    (stage,) = method.stages(Recipe(epochs=1))
    assert isinstance(stage, Training)
    torch.manual_seed(1)
    loss, _ = stage.loss(batch)
    method.weight = 0.0
    torch.manual_seed(1)
    without, _ = stage.loss(batch)
    count = sum(len(one.threshold) for one in method.units)
    assert float((loss - without).detach()) == pytest.approx(0.5 * count * 0.6**2, rel=1e-4)
