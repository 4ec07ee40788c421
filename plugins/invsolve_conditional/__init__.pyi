from .shipped import SR3 as SR3
from .shipped import PartDiff as PartDiff
from .shipped import Regression as Regression
