"""Planted faults: each is caught by the check that is named for it, and a sound operator by none."""

import planted_faults as base
import planted_faults_inverse as inverse
import planted_faults_objects as objects
import planted_faults_world as world
import pytest
import torch

from invsolve.testing import failures, operator_checks

CAUGHT = {
    base.MinusBatchMean: {"check_items", "check_adjoint"},
    base.FirstItemForAll: {"check_items"},
    base.HiddenNoise: {"check_deterministic"},
    base.Affine: {"check_linear", "check_adjoint"},
    base.WritesInput: {"check_untouched"},
    base.Halves: {"check_dtypes"},
    base.RoundsInside: {"check_adjoint"},
    base.Detached: {"check_differentiable"},
    base.WrongShape: {"check_shapes"},
    base.Rooted: {"check_device"},
    base.CountsCalls: {"check_untouched"},
    base.ForgetsBuffer: {"check_state_dict"},
    base.HoldsLambda: {"check_copies"},
    base.OtherArguments: {"check_arguments"},
    base.WrongAdjoint: {"check_adjoint", "check_svd_product"},
    base.AlmostAdjoint: {"check_adjoint", "check_svd_product"},
    base.AdjointAsPinv: {"check_pinv"},
    base.NotMinimumNorm: {"check_pinv"},
    base.NotLeastSquares: {"check_pinv"},
    base.AffinePinv: {"check_pinv_zero"},
    base.WrongProx: {"check_prox"},
    base.FirstTau: {"check_prox_items"},
    base.NoLimit: {"check_prox_limit"},
    base.SortedValues: {"check_svd_product"},
    base.NotOrthogonal: {"check_svd_right"},
    base.LeftNotIsometric: {"check_svd_left"},
    base.ReadsNull: {"check_svd_left"},
    base.EconomyBasis: {"check_svd_layout"},
    base.KeepsRounding: {"check_svd_layout"},
    base.ClaimsSVD: {"check_capabilities"},
    base.HidesPinv: {"check_capabilities"},
    base.GreyMask: {"check_mask"},
    base.OutOfRange: {"check_range"},
    base.WrongSelection: {"check_items"},
    base.NotConjugate: {"check_adjoint"},
    base.BreaksOnEmpty: {"check_empty"},
    base.NeedsContiguous: {"check_strides"},
    base.Coarse: {"check_single_precision"},
    base.Nameless: {"check_repr"},
    base.WrongCount: {"check_selection"},
    # What they hold and remember
    objects.PlainTensor: {"check_buffers"},
    objects.ListOfTensors: {"check_buffers"},
    objects.BoundToFirstUse: {"check_device", "check_state_dict"},
    objects.RemembersLast: {"check_deterministic"},
    objects.RemembersAnswer: {"check_items"},
    objects.WritesThroughView: {"check_untouched"},
    objects.WritesMeasurement: {"check_untouched"},
    objects.SetsSeed: {"check_deterministic"},
    objects.DrawnByNumpy: {"check_deterministic"},
    objects.SumOverBatch: {"check_items"},
    objects.BatchNormedPinv: {"check_items"},
    objects.RankOfTheBatch: {"check_items"},
    objects.ReshapesEmpty: {"check_empty"},
    # The map itself
    objects.WrongFlip: {"check_adjoint"},
    objects.UpsamplingAdjoint: {"check_adjoint"},
    objects.Rectifies: {"check_linear"},
    objects.HalfSupport: {"check_supports"},
    objects.SupportOfImage: {"check_supports"},
    objects.NearlyMask: {"check_mask"},
    objects.OtherMask: {"check_mask"},
    objects.Sharpens: {"check_range"},
    # Autograd
    objects.DetachedAdjoint: {"check_gradients"},
    objects.NaNInGradient: {"check_gradients"},
    objects.StraightThrough: {"check_differentiable"},
    objects.DeadSurrogate: {"check_differentiable"},
    objects.InferenceCache: {"check_inference"},
    # SVD, pinv, prox and draws
    inverse.ThresholdedValues: {"check_svd_product"},
    inverse.MovedLeft: {"check_svd_product"},
    inverse.TransposedRight: {"check_svd_right"},
    inverse.NegativeValue: {"check_svd_layout"},
    inverse.ComplexSpectrum: {"check_svd_layout"},
    inverse.UReadsNull: {"check_svd_left"},
    inverse.ThresholdedPinv: {"check_pinv"},
    inverse.ScaledPinv: {"check_pinv"},
    inverse.DampedPinv: {"check_pinv"},
    inverse.SinglePinv: {"check_pinv"},
    inverse.Projects: {"check_prox"},
    inverse.TwiceTau: {"check_prox"},
    inverse.SwappedProx: {"check_prox"},
    inverse.TauFloor: {"check_prox"},
    inverse.TauCeiling: {"check_prox"},
    inverse.WrongModulus: {"check_prox"},
    inverse.MeanTau: {"check_prox_items"},
    inverse.NaNAtZero: {"check_prox_limit"},
    inverse.DetachedProx: {"check_gradients"},
    inverse.QuietDraws: {"check_prox_sample"},
    inverse.HalfPerturbed: {"check_prox_sample"},
    inverse.ShiftedDraws: {"check_prox_sample"},
    inverse.ZeroIsNoSeed: {"check_prox_sample"},
    inverse.OneStream: {"check_prox_sample"},
    # The process, what is declared, a second size
    world.Setting: {"check_untouched"},
    world.SaysComplex: {"check_flags"},
    world.SaysReal: {"check_flags"},
    world.MixesChannels: {"check_flags"},
    world.ChannelsDiffer: {"check_flags"},
    world.MixesPixels: {"check_flags"},
    world.PixelsDiffer: {"check_flags"},
    world.TwiceFromWidth32: {"check_larger"},
    world.LastTileForgotten: {"check_larger"},
    world.TakesDefaultDtype: {"check_default_dtype"},
    world.MadeInDefaultDtype: {"check_default_dtype"},
}


def test_a_sound_operator_passes():
    assert failures(base.Sound(), operator_checks(base.Sound())) == {}


@pytest.mark.parametrize("fault", CAUGHT, ids=lambda fault: fault.__name__)
def test_planted_fault_is_caught(fault):
    try:
        operator = fault()
        found = failures(operator, [one for one in operator_checks(operator) if one[0] in CAUGHT[fault]])
    finally:
        torch.manual_seed(0)
    assert set(found) == CAUGHT[fault], found
    assert all(found.values())


@pytest.mark.parametrize(
    "fault",
    [base.WrongAdjoint, base.AdjointAsPinv, base.WrongProx, base.NotOrthogonal, base.LeftNotIsometric, base.GreyMask, base.Affine],
    ids=lambda f: f.__name__,
)
def test_a_fault_is_not_smeared_over_unrelated_checks(fault):
    """The name points at the fault: shapes, dtypes, copies and the like still pass."""
    found = failures(fault(), operator_checks(fault()))
    assert not set(found) & {"check_shapes", "check_dtypes", "check_untouched", "check_arguments", "check_state_dict", "check_repr"}


def test_every_check_catches_something():
    """No check that cannot fail."""
    every = {name for fault in CAUGHT for name, _ in operator_checks(fault())}
    caught = set().union(*CAUGHT.values())
    assert every == caught


def test_messages_tell_which_item_and_by_how_much():
    message = failures(base.MinusBatchMean(), operator_checks(base.MinusBatchMean()))["check_adjoint"]
    assert "item(s) [0, 1, 2]" in message
    assert "off by" in message
    assert "allowed is" in message
