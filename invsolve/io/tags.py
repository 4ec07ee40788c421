"""What a picture file says beside its pixels and a result should say, too: the colour profile, and EXIF but for what is no longer so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# EXIF that the result must not have: the orientation, which was applied, and the place, which is nobody else's business.
ORIENTATION, PLACE = 0x0112, 0x8825
INNER = 0x8769  # where the second table of EXIF stands
# Description, maker, model, program, date, artist, copyright: what a TIFF says of a photograph; its other tags say how pixels are stored.
TEXTS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)


@dataclass(frozen=True)
class Tags:
    """Colour profile and EXIF, as a file holds them.

    Args:
        profile: ICC, or None.
        exif: without orientation, thumbnail and place, or None.
    """

    profile: bytes | None = None
    exif: bytes | None = None


def tags_of(path: str | Path) -> Tags:
    """The tags of a picture file; none of what is no picture, or damaged."""
    from PIL import Image

    from invsolve.io.images import FORMATS

    try:
        with Image.open(path, formats=FORMATS) as picture:
            profile, exif = picture.info.get("icc_profile"), picture.getexif()
            inner = dict(exif.get_ifd(INNER))
            stored = picture.format == "TIFF"
            kept = {key: exif[key] for key in exif if (key in TEXTS if stored else key not in (ORIENTATION, PLACE, INNER))}
            if not kept and not inner:
                return Tags(profile)
            made = Image.Exif()
            made.update(kept)
            if inner:
                made.get_ifd(INNER).update(inner)
            return Tags(profile, made.tobytes())
    except Exception:  # tags are an extra: a file that has been read is not refused for them
        return Tags()
