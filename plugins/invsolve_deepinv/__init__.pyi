from .denoisers import DeepinvDenoiser as DeepinvDenoiser
from .physics import DeepinvOperator as DeepinvOperator
from .radon import Radon as Radon
from .radon import filtered_back_projection as filtered_back_projection
from .views import to_deepinv as to_deepinv
