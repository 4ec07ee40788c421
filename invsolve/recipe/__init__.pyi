from .config import Config as Config
from .config import Part as Part
from .config import load_config as load_config
from .config import make_config as make_config
from .parts import Paths as Paths
from .parts import build as build
from .parts import check as check
from .parts import inner_kind as inner_kind
