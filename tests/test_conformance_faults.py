"""Planted faults: each is caught by the check that is named for it, and a sound operator by none."""

import pytest
import torch
from planted_faults import (
    AdjointAsPinv,
    Affine,
    AffinePinv,
    AlmostAdjoint,
    BreaksOnEmpty,
    ClaimsSVD,
    Coarse,
    CountsCalls,
    Detached,
    EconomyBasis,
    FirstItemForAll,
    FirstTau,
    ForgetsBuffer,
    GreyMask,
    Halves,
    HiddenNoise,
    HidesPinv,
    HoldsLambda,
    KeepsRounding,
    LeftNotIsometric,
    MinusBatchMean,
    Nameless,
    NeedsContiguous,
    NoLimit,
    NotConjugate,
    NotLeastSquares,
    NotMinimumNorm,
    NotOrthogonal,
    OtherArguments,
    OutOfRange,
    ReadsNull,
    Rooted,
    RoundsInside,
    SortedValues,
    Sound,
    WritesInput,
    WrongAdjoint,
    WrongCount,
    WrongProx,
    WrongSelection,
    WrongShape,
)

from invsolve.testing import failures, operator_checks

CAUGHT = {
    MinusBatchMean: {"check_items", "check_adjoint"},
    FirstItemForAll: {"check_items"},
    HiddenNoise: {"check_deterministic"},
    Affine: {"check_linear", "check_adjoint"},
    WritesInput: {"check_untouched"},
    Halves: {"check_dtypes"},
    RoundsInside: {"check_adjoint"},
    Detached: {"check_differentiable"},
    WrongShape: {"check_shapes"},
    CountsCalls: {"check_untouched"},
    ForgetsBuffer: {"check_state_dict"},
    HoldsLambda: {"check_copies"},
    OtherArguments: {"check_arguments"},
    WrongAdjoint: {"check_adjoint", "check_svd_product"},
    AlmostAdjoint: {"check_adjoint", "check_svd_product"},
    AdjointAsPinv: {"check_pinv"},
    NotMinimumNorm: {"check_pinv"},
    NotLeastSquares: {"check_pinv"},
    AffinePinv: {"check_pinv_zero"},
    WrongProx: {"check_prox"},
    FirstTau: {"check_prox_items"},
    NoLimit: {"check_prox_limit"},
    SortedValues: {"check_svd_product"},
    NotOrthogonal: {"check_svd_right"},
    LeftNotIsometric: {"check_svd_left"},
    ReadsNull: {"check_svd_left"},
    EconomyBasis: {"check_svd_layout"},
    KeepsRounding: {"check_svd_layout"},
    ClaimsSVD: {"check_capabilities"},
    HidesPinv: {"check_capabilities"},
    GreyMask: {"check_mask"},
    OutOfRange: {"check_range"},
    WrongSelection: {"check_items"},
    NotConjugate: {"check_adjoint"},
    BreaksOnEmpty: {"check_empty"},
    NeedsContiguous: {"check_strides"},
    Coarse: {"check_single_precision"},
    Nameless: {"check_repr"},
    WrongCount: {"check_selection"},
}
if torch.cuda.is_available():
    CAUGHT[Rooted] = {"check_device"}


def test_a_sound_operator_passes():
    assert failures(Sound(), operator_checks(Sound())) == {}


@pytest.mark.parametrize("fault", CAUGHT, ids=lambda fault: fault.__name__)
def test_planted_fault_is_caught(fault):
    try:
        operator = fault()
        found = failures(operator, operator_checks(operator))
    finally:
        torch.manual_seed(0)
    assert CAUGHT[fault] <= set(found), found
    assert all(found.values())


@pytest.mark.parametrize(
    "fault",
    [WrongAdjoint, AdjointAsPinv, WrongProx, NotOrthogonal, LeftNotIsometric, GreyMask, Affine],
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
    message = failures(MinusBatchMean(), operator_checks(MinusBatchMean()))["check_adjoint"]
    assert "item(s) [0, 1, 2]" in message
    assert "off by" in message
    assert "allowed is" in message
