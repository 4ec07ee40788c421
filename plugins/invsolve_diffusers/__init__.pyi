from .networks import Decoder as Decoder
from .networks import Encoder as Encoder
from .networks import PlainUNet as PlainUNet
from .networks import TextTransformer as TextTransformer
from .networks import TextUNet as TextUNet
from .prior import Published as Published
from .told import Told as Told
from .told import Words as Words
