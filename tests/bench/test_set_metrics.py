"""Metrics of sets in features, downstream accuracy and perceptual distances, against numbers that are known."""

import math

import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from invsolve import InputError, Problem
from invsolve.bench.metrics import Case
from invsolve.bench.perceptual import BACKBONES, LPIPS, FeatureDistance
from invsolve.bench.set_metrics import FID, KID, InceptionScore, Precision, Recall, Recognised
from invsolve.testing.oracle import Gaussian, normal, wasserstein


def as_images(rows):
    """Points (n, d) as n images (d, 1, 1), which the metrics of the tests take for their own features."""
    return list(rows[:, :, None, None])


class Flat:
    network = "the pixels"

    def features(self, images):
        return images.flatten(1)


class PixelFID(Flat, FID):
    pass


class PixelKID(Flat, KID):
    pass


class PixelPrecision(Flat, Precision):
    pass


class PixelRecall(Flat, Recall):
    pass


class PixelScore(Flat, InceptionScore):
    pass


def exactly(mean, cov, count, seed):
    """Points whose sample mean and covariance (by n - 1) are these, to rounding."""
    z = normal(count, len(mean), seed=seed)
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / (count - 1))).T
    return mean + z @ torch.linalg.cholesky(cov).T


def law(seed, size=5):
    root = normal(size, size, seed=seed) / 3
    return Gaussian(normal(size, seed=seed + 1), root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64))


def test_fid_of_two_gaussians_is_their_wasserstein_distance():
    one, other = law(1), law(3)
    sets = (as_images(exactly(part.mean, part.cov, count, 7)) for part, count in ((one, 40), (other, 70)))
    assert PixelFID().compute(*sets) == pytest.approx(wasserstein(one, other) ** 2, rel=1e-10)


def test_fid_is_refused_at_as_many_images_as_features():
    many = as_images(normal(12, 5, seed=0))
    for few in (2, 5):
        with pytest.raises(InputError, match=f"FID by the pixels has 5 features and needs at least 6 images in each set; given {few}"):
            PixelFID().compute(many[:few], many)
    assert PixelFID().compute(many[:6], many[:6]) == pytest.approx(0, abs=1e-9)


def test_kid_is_that_of_torchmetrics_on_sets_of_one_size():
    one, other = normal(20, 6, seed=0), 0.5 + normal(20, 6, seed=1)
    assert PixelKID().compute(as_images(one), as_images(other)) == pytest.approx(float(poly_mmd(one, other)), rel=1e-10)


def test_kid_is_unbiased():
    """200 pairs of small sets of different sizes: 0 within 4 standard errors for one law, and the distance of the means' moments for two.

    Points of one feature, N(0, 1) and N(1, 1): E (ab + 1)^3 = m3 n3 + 3 m2 n2 + 3 m1 n1 + 1 by their moments (0, 1, 0) and (1, 2, 4).
    """
    pairs = [(normal(6, 1, seed=2 * index), normal(9, 1, seed=2 * index + 1)) for index in range(200)]
    for shift, wanted in ((0.0, 0.0), (1.0, (0 - 4) ** 2 + 3 * (1 - 2) ** 2 + 3 * (0 - 1) ** 2)):
        found = torch.tensor([PixelKID().compute(as_images(one), as_images(other + shift)) for one, other in pairs])
        assert abs(float(found.mean()) - wanted) < 4 * float(found.std()) / math.sqrt(len(found))


def test_precision_and_recall_by_hand():
    """Forty truths at 0, 1, ..., 39: with k = 1 every ball reaches 1 far. Answers: ten from .5 on (inside), ten from 100 on (outside)."""
    truths = torch.arange(40, dtype=torch.float64)[:, None]
    answers = torch.cat([0.5 + torch.arange(10, dtype=torch.float64) * 0.01, 100 + 0.25 * torch.arange(10, dtype=torch.float64)])[:, None]
    assert PixelPrecision(k=1).compute(as_images(answers), as_images(truths)) == 0.5
    # The answers' balls at .5 to .59 reach .01, those about 100 reach .25: no whole number but 100 and above lies in one.
    assert PixelRecall(k=1).compute(as_images(answers), as_images(truths)) == 0.0
    assert PixelRecall(k=1).compute(as_images(truths), as_images(answers)) == 0.5  # and the other way round
    assert (
        PixelPrecision().compute(as_images(truths), as_images(truths)) == PixelRecall().compute(as_images(truths), as_images(truths)) == 1.0
    )


def test_precision_needs_ten_images_for_each_neighbour():
    many = as_images(normal(39, 2, seed=0))
    with pytest.raises(InputError, match="precision by the pixels has 2 features and needs at least 40 images"):
        PixelPrecision().compute(many, many)
    with pytest.raises(InputError, match="k must be a whole number, at least 1; given 0"):
        PixelRecall(k=0)


def test_the_inception_score_of_sure_and_unsure_answers():
    sure, unsure = torch.eye(4, dtype=torch.float64).repeat(12, 1), torch.full((48, 4), 0.25, dtype=torch.float64)
    one_class = torch.eye(4, dtype=torch.float64)[:1].repeat(48, 1)
    assert [round(PixelScore().compute(as_images(rows), []), 12) for rows in (sure, unsure, one_class)] == [4.0, 1.0, 1.0]
    uneven = torch.cat([sure[:40], one_class[:8]])
    p = uneven.mean(0)
    assert PixelScore().compute(as_images(uneven), []) == pytest.approx(math.exp(float(-(p * p.log()).sum())), rel=1e-12)
    with pytest.raises(InputError, match="at least 40 images"):
        PixelScore().compute(as_images(sure[:39]), [])
    with pytest.raises(InputError, match="takes probabilities"):
        PixelScore().compute(as_images(2 * sure), [])


class Brightest(Recognised):
    """The class of an image is its brightest channel."""

    def logits(self, images):
        return images.flatten(2).mean(2)


def test_downstream_accuracy_goes_by_the_label_or_else_by_the_truth():
    images = torch.eye(3).reshape(3, 3, 1, 1)

    class Answer:
        mean, samples = images, None

    def case(truth, **context):
        return Case(Problem.unconditional((3, 1, 1), 3, context=context), truth, Answer())  # pyright: ignore[reportArgumentType]

    assert Brightest().measure(case(None, label=torch.tensor([0, 2, 2]))).tolist() == [1.0, 0.0, 1.0]
    assert Brightest().measure(case(images[[0, 1, 0]])).tolist() == [1.0, 1.0, 0.0]
    assert bool(Brightest().measure(case(None)).isnan().all())


class Identity(FeatureDistance):
    def layers(self, images):
        return [images, images[..., :2]]


def test_the_feature_distance_by_hand():
    """Two channels, (1, 0) against (1, 1) / sqrt 2: |difference|^2 = 2 - sqrt 2 where they differ, in 2 of 4 places and in 2 of 2."""
    x = torch.zeros(1, 2, 1, 4, dtype=torch.float64)
    x[:, 0] = 0.5
    y = x.clone()
    y[:, 1, :, :2] = 0.5
    wanted = (2 - math.sqrt(2)) * (0.5 + 1.0) / 2
    assert float(Identity()(y, x)) == pytest.approx(wanted, rel=1e-12)
    assert float(Identity()(0.3 * y, 0.8 * y)) == pytest.approx(0, abs=1e-14)  # lengths do not count
    assert float(Identity()(0 * x, 0 * x)) == 0.0


def test_the_encoder_distance_sees_a_blur_and_hardly_a_brightness():
    """A picture of stripes: a blur that leaves a tenth of them, and a brightness of the same squared error."""
    from invsolve_priors.distance import EncoderDistance

    x = torch.full((1, 3, 32, 32), 0.4)
    x[..., ::4] = x[..., 1::4] = 0.6
    blurred = 0.5 + 0.1 * (x - 0.5)
    lighter = x + float((blurred - x).square().mean().sqrt())
    metric = EncoderDistance()
    same, blur, light = (float(metric(one, x)) for one in (x, blurred, lighter))
    assert same == 0
    assert blur > 3 * light > 0
    with pytest.raises(InputError, match="takes 3 channels; given 1"):
        metric(x[:, :1], x[:, :1])


class TestLPIPS:
    def test_it_is_registered_where_torch_keeps_its_weights(self, tmp_path, monkeypatch):
        import invsolve_benchmarks

        assert BACKBONES["alex"] == invsolve_benchmarks.ALEXNET
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        assert str(invsolve_benchmarks.hub()) == torch.hub.get_dir()
        monkeypatch.delenv("TORCH_HOME")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert str(invsolve_benchmarks.hub()) == torch.hub.get_dir()

    def test_without_its_weights_it_says_where_they_belong(self, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
        with pytest.raises(InputError, match=r"needs torchvision's weights alexnet-owt-7be5be79.pth, which are not fetched.*checkpoints"):
            LPIPS()(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64))
        with pytest.raises(InputError, match="net must be one of alex, vgg, squeeze"):
            LPIPS("resnet")

    def test_with_weights_it_is_that_of_torchmetrics_image_by_image(self, tmp_path, monkeypatch):
        """Random weights of the smallest network, in the place of ImageNet's."""
        torchvision = pytest.importorskip("torchvision")
        from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity as theirs

        monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
        (tmp_path / "checkpoints").mkdir()
        torch.manual_seed(0)
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
        x, y = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
        metric = LPIPS("squeeze")
        found = metric(y, x)
        assert found[0] == pytest.approx(float(theirs(y[:1], x[:1], net_type="squeeze", normalize=True)), rel=1e-4)
        assert found[0] != found[1]
        assert float(metric(x[:1], x[:1])) == 0.0
        with pytest.raises(InputError, match="takes 3 channels; given 1"):
            metric(x[:, :1], x[:, :1])
