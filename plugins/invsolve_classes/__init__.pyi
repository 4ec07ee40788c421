from .clip import ClipImages as ClipImages
from .clip import clip_text as clip_text
from .shipped import digit_classifier as digit_classifier
from .shipped import mnist_by_classifier as mnist_by_classifier
from .shipped import mnist_classes as mnist_classes
