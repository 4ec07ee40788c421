from .networks import Autoencoder as Autoencoder
from .weights import AutoencoderCard as AutoencoderCard
from .weights import load_autoencoder as load_autoencoder
from .priors import Faces64Latent as Faces64Latent
from .priors import Latent as Latent
