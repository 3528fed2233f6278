"""AR-Net (Meng et al., "AR-Net: Adaptive Frame Resolution for Efficient Action Recognition", ECCV 2020).

A small policy network looks at the frames one after the other and chooses for each: one of several networks, each at
its own resolution; what it says itself; or to skip this frame and the next few. The answer is the mean over the frames
that are not skipped.

The authors' code runs every network on every frame and adds up what it could have left out. Here only what was chosen
runs, and on skipped frames the policy network does not run either, as their accounting has it. So its LSTM keeps both
its states over them, in training too; in the authors' code the hidden state is put back and the cell state goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.arnet import training
from baselines.arnet.networks import Backbone, PolicyNetwork, resized
from baselines.networks.resnet import BasicBlock, Bottleneck, ResNet
from bench.cost import count_meta, samples
from bench.inference.optimise import with_optimised
from bench.method import InputSpec, Method, Prediction, Recipe, Stage, Trace
from bench.policy import Learned, Policy

Decide = Literal["argmax", "sample"]

RESNETS: Mapping[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
}
SHARES = (1, 3 / 4, 1 / 2, 3 / 8)  # of the frame's size: 224, 168, 112 and, for the policy network, 84
MOST_ACTIONS = 8


class ArNet(Method):
    """AR-Net on clips (B, 3, T, H, W).

    backbones: the dearest first. resolution: of the policy network. skips: how many frames each skip covers, the
    present one included. decide: "argmax", the likeliest action, or "sample", one drawn by its chance as the authors'
    code does; the draw depends on `seed` and on the pixels of the clip, and on nothing else. cost_weight: w in
    (1 − w)·cross-entropy + w·(cost + balance·unevenness). shares, rates: epochs and learning rates of the stages.

    Decision points: "frame.t", one-hot (B, actions) over the backbones, the policy network's own answer, and the skips;
    zeros at frames that an earlier skip covers.

    macs: multiply-adds of each action, without the policy network's, `policy_macs`, which runs before it.

    Raises:
        ValueError: a backbone costs more than the one before.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone],
        policy_network: PolicyNetwork,
        spec: InputSpec,
        *,
        resolution: int,
        skips: Sequence[int],
        decide: Decide,
        seed: int,
        cost_weight: float,
        balance: float,
        shares: Sequence[float],
        rates: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbones, self.policy_network = nn.ModuleList(backbones), policy_network
        self.spec, self.resolution, self.decide, self.seed = spec, resolution, decide, seed
        self.cost_weight, self.balance = cost_weight, balance
        self.shares, self.rates = tuple(shares), tuple(rates)
        self.answers = len(backbones) + 1  # the first actions; the others skip
        self._further = (*(0 for _ in range(self.answers)), *(skip - 1 for skip in skips))  # frames skipped after
        self.policy_macs = count_meta(policy_network, (1, 3, resolution, resolution)).macs
        image = (1, 3, spec.size, spec.size)
        counted = [count_meta(backbone, image).macs for backbone in backbones]
        own = count_meta(policy_network.classify, (1, policy_network.hidden)).macs
        self.macs = (*counted, own, *(0 for _ in skips))
        if any(one < other for one, other in pairwise(self.macs)):
            raise ValueError(f"backbones must go from the dearest to the cheapest; these cost {counted}")

    @property
    def points(self) -> list[str]:
        """The decision points, one a frame."""
        return [f"frame.{time}" for time in range(self.spec.frames)]

    def forward(self, sample: Tensor, policy: Policy | None = None) -> Prediction:
        """Class logits, zeros where every frame is skipped; runs only what was decided, in training mode too."""
        frames = sample.transpose(1, 2)
        trace, hidden = self._decisions(frames, policy or Learned())
        action, _ = self.follow(trace)
        return Prediction(self.account(trace), trace, logits=self._answer(frames, hidden, action))

    def _decisions(self, frames: Tensor, policy: Policy) -> tuple[Trace, Tensor]:
        """What is decided at each frame of (B, T, 3, H, W), and the LSTM's hidden states (B, T, hidden)."""
        batch, noise = len(frames), self._noise(frames)
        hidden = cell = frames.new_zeros(batch, self.policy_network.hidden)
        wait = torch.zeros(batch, dtype=torch.int64, device=frames.device)
        trace, states = {}, []
        for time, point in enumerate(self.points):
            rows = (wait == 0).nonzero()[:, 0]
            learned = frames.new_zeros(batch, len(self.macs))
            if len(rows):
                with samples(rows):
                    images = resized(frames[rows, time], self.resolution)
                    chances, new_hidden, new_cell = self.policy_network(images, (hidden[rows], cell[rows]))
                hidden = hidden.index_copy(0, rows, new_hidden.to(hidden.dtype))
                cell = cell.index_copy(0, rows, new_cell.to(cell.dtype))
                learned[rows, (chances + noise[rows, time]).argmax(1)] = 1
            action = policy.decide(point, learned).argmax(1)
            trace[point] = F.one_hot(action, len(self.macs)).to(learned) * (wait == 0)[:, None]
            wait = self.after(wait, action)
            states.append(hidden)
        return trace, torch.stack(states, 1)

    def _noise(self, frames: Tensor) -> Tensor:
        """What is added to the log-chances so that the largest sum is the decision, (B, T, actions)."""
        shape = (frames.shape[1], len(self.macs))
        if self.decide == "argmax":
            return frames.new_zeros(len(frames), *shape)
        drawn = [_generator(self.seed, clip).gumbel(size=shape) for clip in frames]
        return torch.from_numpy(np.stack(drawn)).to(frames)

    def after(self, wait: Tensor, action: Tensor) -> Tensor:
        """Frames still to be skipped (B,) after one where `wait` were; if none, `action` (B,) was decided there."""
        return torch.where(wait == 0, torch.tensor(self._further, device=wait.device)[action], wait - 1)

    def follow(self, trace: Trace) -> tuple[Tensor, Tensor]:
        """The action in force at each frame, int64, and whether it was decided there, not earlier: both (B, T)."""
        first = trace[self.points[0]]
        wait = action = torch.zeros(len(first), dtype=torch.int64, device=first.device)
        actions, decided = [], []
        for point in self.points:
            decided.append(wait == 0)
            action = torch.where(decided[-1], trace[point].argmax(1), action)
            actions.append(action)
            wait = self.after(wait, action)
        return torch.stack(actions, 1), torch.stack(decided, 1)

    def _answer(self, frames: Tensor, hidden: Tensor, action: Tensor) -> Tensor:
        """Logits (B, classes): the mean over frames of what was chosen there; each network runs once, on its frames."""
        logits = frames.new_zeros(*action.shape, self.policy_network.classify.out_features)
        inputs = [*(frames for _ in self.backbones), hidden]
        for number, network in enumerate((*self.backbones, self.policy_network.classify)):
            rows, times = (action == number).nonzero(as_tuple=True)
            if len(rows):
                with samples(rows):
                    logits[rows, times] = network(inputs[number][rows, times]).to(logits.dtype)
        return logits.sum(1) / (action < self.answers).sum(1, keepdim=True).clamp(min=1)

    def decisions(self) -> Mapping[str, Tensor]:
        """Each action at every frame; what is forced at frames that a skip covers is not looked at."""
        return dict.fromkeys(self.points, torch.eye(len(self.macs)))

    def account(self, trace: Trace) -> Tensor:
        """The policy network at the frames where it runs, and what was chosen there."""
        action, decided = (each.cpu() for each in self.follow(trace))
        return (torch.tensor(self.macs, device="cpu")[action] + self.policy_macs * decided).sum(1)

    def optimised(self) -> ArNet:
        """With all networks on images in their fastest form."""
        image, small = (1, 3, self.spec.size, self.spec.size), (1, 3, self.resolution, self.resolution)
        backbones = {f"backbones.{number}": image for number in range(len(self.backbones))}
        return with_optimised(self, {**backbones, "policy_network.features": small})

    def usage(self, trace: Trace) -> Tensor:
        """Share of frames under each action, float64 (B, actions); a skip counts at all frames it covers."""
        action, _ = self.follow(trace)
        return F.one_hot(action, len(self.macs)).double().mean(1)

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """As `baselines.arnet.training.stages`."""
        return training.stages(self, recipe)


def _generator(seed: int, clip: Tensor) -> np.random.Generator:
    """Random numbers that only `seed` and the pixels of a clip decide."""
    digest = hashlib.blake2b(str(seed).encode())
    digest.update(clip.detach().float().view(torch.int32).cpu().numpy().tobytes())
    return np.random.default_rng(int.from_bytes(digest.digest()))


def arnet(
    *,
    frames: int = 16,
    size: int = 224,
    classes: int,
    width: int = 64,
    backbones: Sequence[str] = ("resnet50", "resnet34", "resnet18"),
    resolutions: Sequence[int] | None = None,
    blocks: Sequence[int] | None = None,
    skips: Sequence[int] = (1, 2, 4),
    decide: Decide = "argmax",
    seed: int = 0,
    cost_weight: float = 0.05,
    balance: float = 3.0,
    dropout: float = 0.5,
    shares: Sequence[float] = (10, 50, 50),
    rates: Sequence[float] = (0.02, 1e-3, 5e-4),
) -> ArNet:
    """AR-Net; all defaults as published but `decide` (there "sample"), 62,588,391 parameters at 200 classes.

    resolutions: of each backbone and, last, of the policy network; the published shares of `size` if not given.
    width: of all networks, 64 as published; blocks: a stage of every ResNet; these shrink them for small data. Further
    options as of `ArNet`. Sixteen frames of 224 take from 0.216 G (skips of 4 only) to 66.27 G (ResNet-50 on every
    frame); no single choice takes the 44.8 G of VA-RED²'s Table 4: ResNet-34 on every frame takes 36.78 G.

    Raises:
        ValueError: options that cannot be.
    """
    if resolutions is None:
        resolutions = [max(1, round(size * share)) for share in SHARES]
    _check(backbones, resolutions, skips, decide)
    _check_training(cost_weight, balance, shares, rates)
    if frames < 1 or width < 1 or not 0 <= dropout < 1 or (blocks is not None and min(blocks, default=0) < 1):
        raise ValueError("frames, width and blocks must be 1 or more, dropout in 0..1")
    networks = []
    for name, resolution in zip(backbones, resolutions, strict=False):
        block, depths = RESNETS[name]
        networks.append(Backbone(name, ResNet(block, blocks or depths, classes, width), resolution, dropout))
    policy_network = PolicyNetwork(classes, len(resolutions) + len(skips), width, dropout)
    return ArNet(
        networks,
        policy_network,
        InputSpec("clip", size, frames),
        resolution=resolutions[-1],
        skips=skips,
        decide=decide,
        seed=seed,
        cost_weight=cost_weight,
        balance=balance,
        shares=shares,
        rates=rates,
    )


def _check(backbones: Sequence[str], resolutions: Sequence[int], skips: Sequence[int], decide: str) -> None:
    unknown = [name for name in backbones if name not in RESNETS]
    if unknown or not backbones:
        raise ValueError(f"backbones must be some of {', '.join(RESNETS)}, got {', '.join(backbones) or 'none'}")
    if len(resolutions) != len(backbones) + 1 or min(resolutions) < 1:
        raise ValueError(f"{len(backbones)} backbones and the policy need a resolution each, got {list(resolutions)}")
    if any(skip < 1 for skip in skips) or list(skips) != sorted(skips):
        raise ValueError(f"skips must be 1 frame or more, the shortest first, got {list(skips)}")
    if len(resolutions) + len(skips) > MOST_ACTIONS:
        raise ValueError(f"there can be {MOST_ACTIONS} actions, got {len(resolutions)} answers and {len(skips)} skips")
    if decide not in get_args(Decide):
        raise ValueError(f"decide must be one of {', '.join(get_args(Decide))}, got {decide!r}")


def _check_training(cost_weight: float, balance: float, shares: Sequence[float], rates: Sequence[float]) -> None:
    if not 0 <= cost_weight < 1 or balance < 0:
        raise ValueError(f"cost_weight must be in 0..1 and balance 0 or more, got {cost_weight} and {balance}")
    if len(shares) != 3 or len(rates) != 3 or min(shares) < 0 or not sum(shares) > 0 or not all(r > 0 for r in rates):
        raise ValueError(
            f"three stages need three shares, 0 or more, and three rates above 0, got {shares} and {rates}"
        )
