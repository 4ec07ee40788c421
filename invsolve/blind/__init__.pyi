from .diagnosis import Diagnosis as Diagnosis
from .identify import identify as identify
