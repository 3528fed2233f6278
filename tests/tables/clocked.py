"""Timings as tests need them: a method against its static twin, whose figures follow from a few numbers."""

from pathlib import Path
from typing import Any

from bench.speed.record import Arm, Span, SpeedIdentity, SpeedRecord, SpeedStore

STATIC, DYNAMIC = "r2plus1d_18", "vared/r2plus1d_18"
MATCHED = "matched:20.0:18.0:22.1"
IDENTITY: dict[str, Any] = {
    "a": DYNAMIC,
    "a_options": {"search_space": 2},
    "b": STATIC,
    "b_options": {},
    "frames": 8,
    "size": 32,
    "classes": 10,
    "batch": 8,
    "precision": "fp32",
    "policy": "learned",
    "profile": "p",
    "dataset": "digits",
    "seed": 0,
    "trained": True,
    "device": "one processor",
    "threads": 2,
    "torch": "2.13.0",
    "revisions": [1, 1, 1],
    "b_policy": "",
}


def span(value: float, share: float = 0.01) -> Span:
    """A value with an interval of a share either way."""
    return Span(value=value, low=value * (1 - share), high=value * (1 + share))


def arm(method: str, options: dict[str, Any], cost: float, speed: float, form: str = "optimised", **other: Any) -> Arm:
    """One of the forms, at a cost in GFLOPs."""
    given = {"executed": cost * 0.9e9, "samples": [1.0]} | other
    return Arm(
        method=method, options=options, form=form, accounted=cost * 1e9, clips_per_second=span(speed, 0.02), **given
    )


def timing(
    ratio: float = 1.2, *, share: float = 0.01, twin: float = 100.0, cost: float = 20.0, **given: Any
) -> SpeedRecord:
    """A finished timing whose method is `ratio` times as fast as a twin of 27.7 GFLOPs; keywords of either part."""
    who = SpeedIdentity(**{key: given.pop(key, value) for key, value in IDENTITY.items()})
    saved = 27.7 / cost - 1
    figures: dict[str, Any] = {
        "status": "done",
        "a": arm(who.a, who.a_options, cost, ratio * twin),
        "b": arm(who.b, who.b_options, 27.7, twin),
        "plain": [
            arm(who.b, who.b_options, 27.7, 0.8 * twin, "eager"),
            arm(who.b, who.b_options, 27.7, 0.9 * twin, "compiled"),
        ],
        "noise": Span(value=1.0, low=0.98, high=1.02),
        "ratio": span(ratio, share),
        "different": True,
        "cost_ratio": cost / 27.7,
        "eta": span((ratio - 1) / saved),
        "eta_max": 0.9,
        "bound": {"a": 500.0, "b": 400.0, "macs_per_second": 1e12, "bytes_per_second": 1e11},
        "protocol": {"rounds": 30},
        "environment": {"torch": who.torch},
    }
    return SpeedRecord(identity=who, **figures | given)


def at_point(ratio: float = 1.2, **given: Any) -> SpeedRecord:
    """A timing at the operating point of 8 frames and search space 2 in Table 1."""
    point = {"row": "table1/8f-sp2", "policy": MATCHED, "size": 128, "classes": 200, "trained": False, "profile": ""}
    return timing(ratio, twin=given.pop("twin", 10.0), **point | given)


def failed(reason: str, **given: Any) -> SpeedRecord:
    """A timing that could not be done."""
    return timing(**given).model_copy(
        update={"status": "failed", "reason": reason} | dict.fromkeys(("a", "b", "ratio", "eta", "noise", "bound"))
    )


def store(folder: Path, *records: SpeedRecord) -> None:
    """Stores timings beside the records of `folder`."""
    for record in records:
        SpeedStore(folder / "speed").write(record)
