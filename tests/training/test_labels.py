"""Training on labels: pairs with a share left out, noised classifiers, and what both refuse."""

import io

import numpy as np
import pytest
import torch
from invsolve_priors.export import export_run
from invsolve_priors.runs import Places
from invsolve_priors.train import prepared
from invsolve_weights.cards import load_network

from invsolve.errors import InputError
from invsolve.training.config import TrainConfig
from invsolve.training.data import Crops
from invsolve.training.labels import Labelled, labels_of_crops

NETWORKS = {"conditional": "ClassDRUNet", "classifier": "NoisedClassifier"}
SIZES = {"conditional": "nc = [4, 4, 4, 4], nb = 1", "classifier": "nc = [4, 8], hidden = 6"}


def digits(path, count=30, classes=3, **arrays):
    """A column of each label's own, and a first pixel of grey 40 (1 + label)."""
    labels = np.arange(count, dtype=np.uint8) % classes
    images = np.zeros((count, 8, 8), np.uint8)
    images[np.arange(count), :, 2 * labels + 1] = 200
    images[:, 0, 0] = 40 * (1 + labels)
    np.savez(path, **{"images": images, "labels": labels, **arrays})
    return path


def config(folder, kind, *, steps=4, classes=3, lr=1e-3):
    digits(folder / "some.npz")
    path = folder / "toy.toml"
    path.write_text(f"""
[network]
class = "invsolve_weights.networks:{NETWORKS[kind]}"
arguments = {{ channels = 1, classes = {classes}, {SIZES[kind]} }}
[data]
side = 8
flips = "none"
[[data.source]]
path = "some.npz"
[validation]
path = "some.npz"
side = 8
[objective]
kind = "{kind}"
sigmas = {{ kind = "log-normal", mean = -2.0, std = 1.0, low = 0.002, high = 8.0 }}
[condition]
labels = true
classes = {classes}
[run]
steps = {steps}
batch = 8
lr = {lr}
warmup = 1
""")
    return TrainConfig.load(path)


def run(folder, kind, **options):
    chosen = config(folder, kind, **options)
    return chosen, prepared(chosen, Places(folder, folder), folder / "run")


def test_labels_belong_to_their_images_and_a_share_is_left_out(tmp_path):
    """2000 draws: the share without is .3 within 4 standard errors, every other label is its image's."""
    crops = Crops(
        [(digits(tmp_path / "some.npz"), 1.0, (1.0,)), (digits(tmp_path / "more.npz", 12), 2.0, (1.0,))], 8, channels=1, flips="none"
    )
    images, labels = Labelled(3, 0.3).draw(crops, 2000, np.random.default_rng(0))
    shown = labels < 3
    assert abs(float((~shown).double().mean()) - 0.3) < 4 * (0.21 / 2000) ** 0.5
    assert torch.equal((images[shown, 0, 0, 0] * 255 / 40 - 1).round().long(), labels[shown])


def test_what_is_drawn_without_labels_is_the_same(tmp_path):
    crops = Crops([(digits(tmp_path / "some.npz"), 1.0, (1.0,))], 8, channels=1)
    plain = crops.sample(9, np.random.default_rng(4))
    assert torch.equal(crops.labelled(9, np.random.default_rng(4), labels_of_crops(crops, 3))[0], plain)


def test_images_alone_have_no_label():
    images, labels = Labelled(7)(torch.zeros(2, 1, 4, 4), np.random.default_rng(0))
    assert (images.shape, labels.tolist()) == ((2, 1, 4, 4), [7, 7])


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_run_goes_on_to_the_bit_and_its_weights_are_read(tmp_path, kind):
    (tmp_path / "whole").mkdir()
    chosen, whole = run(tmp_path / "whole", kind)
    wanted = whole.run(lambda _: None)
    (tmp_path / "parts").mkdir()
    chosen, first = run(tmp_path / "parts", kind)
    for _ in range(2):
        first._train_step()
    first.save(lambda _: None)
    found = run(tmp_path / "parts", kind)[1].run(lambda _: None)
    for one, other in zip(found.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(one, other)
    file = export_run(tmp_path / "parts" / "run", chosen)[0]
    network, card = load_network(file)
    assert card.training["condition"] == {"kind": "labels", "labels": True, "classes": 3, "drop": 0.1}
    extra = (torch.tensor([0, 3]),) if kind == "conditional" else ()
    out = network(torch.zeros(2, 1, 8, 8), torch.ones(2), *extra)
    assert out.shape == ((2, 1, 8, 8) if kind == "conditional" else (2, 3))


def test_a_classifier_learns_which_column_is_lit(tmp_path):
    """By chance one in three is right."""
    training = run(tmp_path, "classifier", steps=120, lr=1e-2)[1]
    training.run(lambda _: None)
    assert training.rows[-1]["right0.002"] > 0.9


def test_a_class_changes_the_answer_and_none_is_the_network_without(tmp_path):
    """Begun with EDMDRUNet's weights: further channels with weights 0, so that every class has that network's answer."""
    from invsolve_priors.train import fitted
    from invsolve_weights.networks import ClassDRUNet, EDMDRUNet

    torch.manual_seed(0)
    plain, told = EDMDRUNet(1, (4, 4, 4, 4), 1).eval(), ClassDRUNet(1, 3, (4, 4, 4, 4), 1).eval()
    x, sigma = torch.rand(4, 1, 8, 8), torch.tensor([0.1, 0.5, 1.0, 5.0])
    with torch.no_grad():
        first = told(x, sigma, torch.tensor([0, 1, 2, 3]))
        assert not torch.allclose(first, told(x, sigma, torch.tensor([3, 3, 3, 3])), atol=1e-4)
        told.load_state_dict(fitted(plain.state_dict(), told.state_dict(), "plain"))
        assert torch.allclose(told(x, sigma, torch.tensor([0, 1, 2, 3])), plain(x, sigma), rtol=0, atol=1e-6)


def test_what_is_refused(tmp_path):
    crops = Crops([(digits(tmp_path / "some.npz"), 1.0, (1.0,))], 8, channels=1)
    with pytest.raises(InputError, match="labels up to 2, and classes = 2 allows 0 to 1"):
        labels_of_crops(crops, 2)
    twice = Crops([(tmp_path / "some.npz", 1.0, (1.0, 2.0))], 8, channels=1)
    with pytest.raises(InputError, match="30 labels for 60 crops"):
        labels_of_crops(twice, 3)
    for wrong in (np.zeros(30), np.full(30, -1), np.zeros((30, 2), np.uint8)):
        digits(tmp_path / "wrong.npz", labels=wrong)
        with pytest.raises(InputError, match=r"labels must be whole numbers \(N,\)"):
            labels_of_crops(Crops([(tmp_path / "wrong.npz", 1.0, (1.0,))], 8, channels=1), 3)
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros((3, 8, 8), np.uint8))
    (tmp_path / "bare.npz").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="no array 'labels'"):
        labels_of_crops(Crops([(tmp_path / "bare.npz", 1.0, (1.0,))], 8, channels=1), 3)


def test_configs_that_do_not_go_together_are_refused(tmp_path):
    text = (config(tmp_path, "classifier"), (tmp_path / "toy.toml").read_text())[1]
    (tmp_path / "bare.toml").write_text(text.replace("labels = true", 'operator = "mask"').replace("classes = 3\n[run]", "[run]"))
    with pytest.raises(InputError, match="a classifier learns labels"):
        TrainConfig.load(tmp_path / "bare.toml")
    (tmp_path / "images.toml").write_text(
        text.replace("NoisedClassifier", "EDMDRUNet").replace("classes = 3, nc = [4, 8], hidden = 6", "nb = 1")
    )
    with pytest.raises(InputError, match=r"must give logits \(2, 3\)"):
        prepared(TrainConfig.load(tmp_path / "images.toml"), Places(tmp_path, tmp_path), tmp_path / "run")
