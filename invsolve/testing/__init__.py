"""Conformance checks that anyone can run on their own operators, priors, noise models and solvers; pytest is not needed to run them.

@pytest.mark.parametrize("operator, check", operator_cases(*MyOperator.examples()))
def test_conformance(operator, check):
    check(operator)
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
