"""Networks that start from stored weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tables.clocked import timing

from bench import registry, weights
from bench.answers.compare import answer
from bench.data.cutting import normalised
from bench.environment import environment
from bench.experiment.plan import Experiment, frozen
from bench.experiment.run import Run
from bench.method import InputSpec
from bench.profiles import load
from bench.records import Identity, Record, Store
from bench.speed import again
from bench.speed.again import job_of
from bench.speed.pair import Pair, Setting, job
from bench.speed.record import SpeedIdentity
from bench.weights import METADATA, WeightsError

SMALL: dict[str, Any] = {"width": 4, "blocks": (1, 1, 1, 1)}
NORMALISATION = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    network = registry.build_network("r2plus1d_18", frames=4, size=16, classes=5, **SMALL)
    said = {"network": "r2plus1d_18", "classes": 5, "normalisation": NORMALISATION}
    save_file(network.state_dict(), tmp_path / "w.safetensors", {METADATA: json.dumps(said)})
    return tmp_path / "w.safetensors"


def built(name: str, classes: int, weights: Path) -> Any:
    torch.manual_seed(8)
    options = {**SMALL, "weights": str(weights)}
    return registry.build(name, frames=4, size=16, classes=classes, network_options=options)


@pytest.mark.parametrize("name", ["r2plus1d_18", "vared/r2plus1d_18"])
def test_networks_start_from_the_file_and_normalise_as_it_says(name: str, stored: Path) -> None:
    method = built(name, 5, stored)
    torch.manual_seed(7)
    wanted = registry.build_network("r2plus1d_18", frames=4, size=16, classes=5, **SMALL)
    found = {key.removeprefix("network.") for key in method.state_dict()}
    assert {"head.weight", "stem.0.weight"} <= found
    assert torch.equal(method.network.stem[0].weight, wanted.stem[0].weight)
    assert torch.equal(method.network.head.weight, wanted.head.weight)
    assert (method.spec.mean, method.spec.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))


def test_a_classifier_of_other_classes_stays_as_drawn(stored: Path) -> None:
    method = built("r2plus1d_18", 3, stored)
    torch.manual_seed(8)
    drawn = registry.build_network("r2plus1d_18", frames=4, size=16, classes=3, **SMALL)
    assert torch.equal(method.network.head.weight, drawn.head.weight)
    assert not torch.equal(method.network.stem[0].weight, drawn.stem[0].weight)
    assert weights.notes(method) == [f"{stored.name}: its classifier is for 5 classes: that for 3 is as drawn"]
    assert not weights.notes(built("r2plus1d_18", 5, stored))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("r2plus1d_18_torchvision", SMALL, "holds the weights of r2plus1d_18, not of"),
        ("r2plus1d_18", {**SMALL, "width": 8}, "has shape"),
        ("r2plus1d_18", {"width": 4, "blocks": (2, 1, 1, 1)}, "names differ"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(
    stored: Path, network: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        registry.build_network(network, frames=4, size=16, classes=5, weights=str(stored), **options)
    assert str(stored) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_no_import_wrote_are_one_line(tmp_path: Path) -> None:
    bare, broken = tmp_path / "bare.safetensors", tmp_path / "broken.safetensors"
    save_file({"a": torch.zeros(1)}, bare)
    broken.write_bytes(b"no weights")
    listed, partial = tmp_path / "listed.safetensors", tmp_path / "partial.safetensors"
    save_file({"a": torch.zeros(1)}, listed, {METADATA: "[]"})
    save_file({"a": torch.zeros(1)}, partial, {METADATA: '{"network": "r2plus1d_18"}'})
    files = {path: "not a file" for path in (bare, broken, listed, partial)}
    for path, message in {**files, tmp_path / "none": "no such file", tmp_path: "no such file"}.items():
        with pytest.raises(WeightsError, match=message):
            registry.build_network("r2plus1d_18", frames=4, size=16, classes=5, weights=str(path), **SMALL)


@pytest.mark.parametrize("weights", [5, None, True, ["a"]])
def test_weights_that_are_no_path_are_one_line(weights: Any) -> None:
    with pytest.raises(registry.RegistryError, match="is no path"):
        registry.build_network("r2plus1d_18", frames=4, size=16, classes=5, weights=weights, **SMALL)


def test_a_run_hangs_on_the_content_of_its_weights_and_not_on_their_path(stored: Path, tmp_path: Path) -> None:
    sizes = {"train_videos": 4, "validation_videos": 4, "test_videos": 4}
    profile = load("quick").model_copy(update={"dataset_options": sizes, "network": SMALL})
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(stored.read_bytes())
    ids = []
    for options in ((("weights", str(stored)),), (("weights", str(copy)),), ()):
        ids.append(Run(Experiment("r2plus1d_18", options, 8, 0), profile, tmp_path, None).identity)
    assert ids[0] == ids[1] != ids[2]
    assert str(tmp_path) not in ids[0].model_dump_json()


def test_a_timing_and_an_answer_name_weights_as_the_record_does(stored: Path, tmp_path: Path) -> None:
    sizes = {"train_videos": 4, "validation_videos": 4, "test_videos": 4}
    profile = load("quick").model_copy(update={"dataset_options": sizes, "network": SMALL})
    options, results = {"weights": str(stored)}, tmp_path / "runs"

    def identities() -> tuple[Identity, SpeedIdentity]:
        record = Run(Experiment("r2plus1d_18", frozen(options), 8, 0), profile, results, None).identity
        return record, Pair(job("r2plus1d_18", None, options, Setting(profile, 8)), results, None).identity

    before, clocked = identities()
    assert clocked.a_options == clocked.b_options == before.options == registry.by_content("r2plus1d_18", options)
    Store(results / "records").write(Record(identity=before, status="failed", reason="nothing"))
    stores = [("yours", results / "records")]
    (form,) = answer("r2plus1d_18", options, profile, [8], None, stores)["forms"]
    assert form["reason"] == "failed: nothing"
    torch.manual_seed(9)
    network = registry.build_network("r2plus1d_18", frames=4, size=16, classes=5, **SMALL)
    said = {"network": "r2plus1d_18", "classes": 5, "normalisation": NORMALISATION}
    save_file(network.state_dict(), stored, {METADATA: json.dumps(said)})
    after, anew = identities()  # other content under the same path
    assert after.id != before.id and anew.id != clocked.id
    assert answer("r2plus1d_18", options, profile, [8], None, stores)["forms"] == []


def test_a_stored_timing_is_done_again_from_its_files_if_they_hold_what_they_did(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, options = {"weights": str(stored)}, registry.by_content("r2plus1d_18", {"weights": str(stored)})
    record = timing(a="r2plus1d_18", a_options=options, b_options=options, profile="quick", trained=False)
    assert record.a and record.b
    forms = {"a": record.a.model_copy(update={"options": given}), "b": record.b.model_copy(update={"options": given})}
    record = record.model_copy(update=forms)
    assert job_of(record).a_options == job_of(record).b_options == given
    here = {"device": environment()["processor"], "threads": 2, "torch": torch.__version__}
    record = record.model_copy(update={"identity": record.identity.model_copy(update=here)})
    other = record.identity.model_copy(update={"a_options": {"weights": "sha256:other"}})
    monkeypatch.setattr(again, "identity_of", lambda *_: other)
    assert again._looked_up(tmp_path, record, tmp_path, None).reason.startswith("the weights to start from are not")
    monkeypatch.setattr(again, "identity_of", lambda *_: record.identity)
    assert again._looked_up(tmp_path, record, tmp_path, None).refused is None


IMAGES = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}


def kept(folder: Path, name: str, seed: int, normalisation: Any = IMAGES, **options: Any) -> Path:
    """A file with the weights of a registered network as drawn from a seed."""
    torch.manual_seed(seed)
    network = registry.build_network(name, frames=4, size=32, classes=7, **options)
    for buffer in network.buffers():  # so that running statistics are told apart too
        buffer.copy_(torch.rand(buffer.shape) * 5) if buffer.is_floating_point() else buffer.fill_(3)
    path = folder / f"{name}-{seed}.safetensors"
    said = {"network": name, "classes": 7, "normalisation": normalisation}
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, path, {METADATA: json.dumps(said)}
    )
    return path


def assert_as_stored(module: torch.nn.Module, path: Path, prefix: str) -> None:
    """Every tensor of a part is that of the file, under the file's names."""
    from safetensors.torch import load_file

    stored = load_file(path)
    own = module.state_dict()
    assert own
    for key, value in own.items():
        found = stored[prefix + key]
        assert torch.equal(value, found.squeeze(2) if found.dim() > value.dim() else found), key


def test_a_detector_starts_its_backbone_from_a_classifier(tmp_path: Path) -> None:
    for name, under in (("detector_i3d", "i3d"), ("detector_x3d_m", "x3d_m")):
        options = {"width": 8} if under == "i3d" else {"width": 8, "blocks": [1, 1, 1, 1]}
        path = kept(tmp_path, under, 1, **options)
        method = registry.build(
            name, frames=4, size=32, classes=3, network_options={**options, "head_width": 16, "weights": str(path)}
        )
        for part, module in method.network.backbone.named_children():
            assert_as_stored(module, path, f"{part}.")
        assert method.spec.mean == (0.5, 0.5, 0.5)


def test_methods_start_their_parts_from_several_files(tmp_path: Path) -> None:
    small: dict[str, Any] = {"width": 8, "blocks": [1, 1, 1, 1]}
    files = [kept(tmp_path, name, seed, **small) for seed, name in enumerate(("resnet50", "resnet34", "resnet18"))]
    files.append(kept(tmp_path, "mobilenet_v2", 5, width=4, last=160))
    method: Any = registry.build("arnet", frames=4, size=32, classes=3, weights=[str(file) for file in files], **small)
    for backbone, file in zip(method.backbones, files, strict=False):
        drawn = backbone.network.fc
        assert drawn.out_features == 3  # the classifier of other classes stays as drawn
        backbone.network.fc = torch.nn.Identity()
        assert_as_stored(backbone.network, file, "network.")
    assert_as_stored(method.policy_network.features, files[-1], "network.features.")
    assert method.spec.std == (0.2, 0.2, 0.2)


@pytest.mark.parametrize("focus", ["resnet18", "x3d_s", "mobilenet_v2"])
def test_adafocus_starts_glance_and_focus(focus: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "resnet18": {"width": 8},
        "x3d_s": {"width": 3},
        "mobilenet_v2": {"width": 4, "last": 160},
    }
    path = kept(tmp_path, focus, 2, **options[focus])
    build = {"frames": 4, "size": 32, "classes": 3, "width": 8, "glance": "mobilenet_v2", "focus": focus}
    method: Any = registry.build("adafocus_v2", weights=str(path), **build)
    layers = method.focus.layers
    if focus == "resnet18":
        assert_as_stored(layers.network, path, "network.")
    elif focus == "mobilenet_v2":
        assert_as_stored(layers, path, "network.features.")
        assert_as_stored(method.glance.layers, path, "network.features.")
    else:
        for place, prefix in enumerate(("stem.", "stages.")):
            assert_as_stored(layers[place], path, prefix)


def test_files_that_no_part_takes_or_that_disagree_are_one_line(tmp_path: Path) -> None:
    small: dict[str, Any] = {"width": 8, "blocks": [1, 1, 1, 1]}
    arnet = {"frames": 4, "size": 32, "classes": 3, **small}
    clip, image = kept(tmp_path, "r2plus1d_18", 1, **small), kept(tmp_path, "resnet18", 1, **small)
    with pytest.raises(WeightsError, match="not of arnet; its parts take: mobilenet_v2, resnet18, resnet34, resnet50"):
        registry.build("arnet", weights=str(clip), **arnet)
    other = kept(tmp_path, "resnet34", 1, NORMALISATION, **small)
    with pytest.raises(WeightsError, match="want pixels normalised differently"):
        registry.build("arnet", weights=[str(image), str(other)], **arnet)
    with pytest.raises(WeightsError, match=r"names differ|has shape"):
        registry.build("arnet", weights=str(image), **{**arnet, "width": 4})
    with pytest.raises(registry.RegistryError, match="is no path"):
        registry.build("arnet", weights=[5], **arnet)


def test_pixels_are_normalised_channel_by_channel() -> None:
    spec = InputSpec("clip", 2, 1, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))
    for channels in (1, 3):  # grey is repeated
        pixels = torch.full((1, 1, 2, 2, channels), 51, dtype=torch.uint8)  # 0.2
        found = normalised(pixels, spec)[0, :, 0, 0, 0]
        torch.testing.assert_close(found, torch.tensor([-1.0, -1.0, -4.0]))
