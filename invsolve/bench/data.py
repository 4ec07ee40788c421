"""Pictures, as suites had them: `invsolve.data` is where they are now."""

from invsolve.data import ID, Picture, load_pictures, tensor_sha256

__all__ = ["ID", "Picture", "load_pictures", "tensor_sha256"]
