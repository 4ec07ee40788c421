"""Files: written whole or not at all, pictures in and out, and objects as folders of tensors and JSON."""
