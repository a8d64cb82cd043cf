"""Paste cut-out objects on photographs: sizes, rotation, blur, and which pixels of each object are visible.

Colours are multiplied with alpha before any resize, rotation or blur. So the colour that a file has below its
transparent pixels, often black or white, never shows as a rim.
"""

import math
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

#: A pixel belongs to an object if the object covers at least this share of it.
LEAST_ALPHA = 0.5
#: A cut-out becomes at most so many times larger than its file. More would show as blur.
MOST_ENLARGED = 2.0
# How many cut-outs are tried for an object, how many places for each, and how often a size is corrected.
_PICKS, _PLACES, _CORRECTIONS = 5, 50, 3
# An object of this many pixels gets the whole blur, a smaller one less.
_WHOLE_BLUR = 64
# Larger cut-outs are reduced to this multiple of the largest size of an object: a turn needs finer pixels.
_FINER = 2


class Look(NamedTuple):
    """How objects are drawn.

    Attributes:
        sizes (tuple[int, int]): Least and greatest longer side of a whole object, in pixels.
        objects (tuple[int, int]): Least and greatest number of objects in a picture.
        rotation (float): Most degrees of a turn, to either side.
        blur (float): Greatest standard deviation of the blur, in pixels.
        flip (bool): Whether half of the objects are mirrored.
        overlap (float): Most of an object that later objects may hide, 0 to 1.
    """

    sizes: Tuple[int, int]
    objects: Tuple[int, int]
    rotation: float
    blur: float
    flip: bool
    overlap: float


class Stamp(NamedTuple):
    """An object at its final size.

    Attributes:
        colour (np.ndarray): BGR times alpha, 0 to 255, float32, has shape (h, w, 3).
        alpha (np.ndarray): Share of each pixel that it covers, float32, has shape (h, w).
        box (tuple): (x, y, w, h) of its mask in this array, in pixels.
    """

    colour: np.ndarray
    alpha: np.ndarray
    box: Tuple[int, int, int, int]


def mask_box(mask: np.ndarray) -> Tuple[int, int, int, int]:
    """The smallest box (x, y, w, h) around the true pixels of a mask of shape (H, W); zeros without any."""
    x, y, w, h = cv2.boundingRect(np.ascontiguousarray(mask, dtype=np.uint8))
    return x, y, w, h


def log_uniform(rng: np.random.Generator, least: float, most: float) -> float:
    """A number between two, whose logarithm is evenly distributed."""
    return math.exp(rng.uniform(math.log(least), math.log(most)))


def crop_background(rng: np.random.Generator, photograph: np.ndarray, width: int, height: int
                    ) -> Tuple[np.ndarray, Tuple[int, int, int, int]]:
    """Cut a random part out of a photograph, and bring it to the size of a picture.

    The part is as large as the picture, or larger, and then reduced. If the photograph is too small for that,
    the largest part of the right form is enlarged.

    Args:
        rng (np.random.Generator): Draws the part.
        photograph (np.ndarray): BGR, uint8, has shape (H, W, 3).
        width, height (int): Size of the picture in pixels.

    Returns:
        tuple: The background, float32, has shape (height, width, 3); and the part (x, y, w, h), in pixels.
    """
    high, wide = photograph.shape[:2]
    most = min(wide / width, high / height)
    factor = log_uniform(rng, 1, most) if most > 1 else most
    w, h = (min(side, max(1, round(length * factor))) for side, length in ((wide, width), (high, height)))
    x, y = int(rng.integers(wide - w + 1)), int(rng.integers(high - h + 1))
    part = photograph[y:y + h, x:x + w]
    way = cv2.INTER_AREA if factor > 1 else cv2.INTER_CUBIC
    return cv2.resize(part, (width, height), interpolation=way).astype(np.float32), (x, y, w, h)


def reduced(cutout: np.ndarray, look: Look) -> np.ndarray:
    """Cut off the empty rim of a cut-out, and reduce it if it is much larger than any object will be.

    Args:
        cutout (np.ndarray): BGR and alpha, uint8, has shape (h, w, 4).
        look (Look): The limits of sizes.

    Returns:
        np.ndarray: The same form, smaller.
    """
    x, y, w, h = mask_box(cutout[..., 3] > 0)
    cutout, most = cutout[y:y + h, x:x + w], _FINER * look.sizes[1]
    if max(w, h) <= most:
        return cutout
    whole = _resized(_multiplied(cutout), most / max(w, h))
    whole[..., :3] /= np.maximum(whole[..., 3:], 1 / 255)
    whole[..., 3] *= 255
    return np.rint(whole).clip(0, 255).astype(np.uint8)


def make_stamp(rng: np.random.Generator, cutout: np.ndarray, look: Look, width: int, height: int
            ) -> Optional[Stamp]:
    """Mirror, turn, resize and blur a cut-out, with a random size.

    Args:
        rng (np.random.Generator): Draws how.
        cutout (np.ndarray): BGR and alpha, uint8, has shape (h, w, 4).
        look (Look): The limits.
        width, height (int): Size of the picture in pixels.

    Returns:
        Stamp, optional: None if the object has no size that look and picture allow; for example, a thin line
        that would vanish.
    """
    cutout = reduced(cutout, look)
    longest = MOST_ENLARGED * max(cutout.shape[:2])
    flip = bool(look.flip and rng.integers(2))
    angle, blur = rng.uniform(-look.rotation, look.rotation), rng.uniform(0, look.blur)
    whole = _turned(cutout, angle, flip)
    x, y, w, h = mask_box(whole[..., 3] >= LEAST_ALPHA)
    if not w:
        return None
    fits = max(w, h) * min(width / w, height / h)
    least, most = look.sizes[0], min(look.sizes[1], fits, longest)
    size = round(log_uniform(rng, least, max(least, most)))
    blur *= min(1, size / _WHOLE_BLUR)
    scale = size / max(w, h)
    for _ in range(_CORRECTIONS):
        stamp = _scaled(whole, scale, blur)
        w, h = stamp.box[2:]
        if max(w, h) in (0, size):
            break
        scale *= size / max(w, h)
    return stamp if look.sizes[0] <= max(w, h) <= look.sizes[1] and w <= width and h <= height else None


def _multiplied(cutout) -> np.ndarray:
    """Float32, with alpha from 0 to 1 and colours times alpha."""
    whole = cutout.astype(np.float32)
    whole[..., 3] /= 255
    whole[..., :3] *= whole[..., 3:]
    return whole


def _turned(cutout, angle, flip) -> np.ndarray:
    """The cut-out with multiplied colours, mirrored and turned by degrees; empty rims are cut off."""
    whole = _multiplied(cutout)
    if flip:
        whole = np.ascontiguousarray(whole[:, ::-1])
    if angle:
        h, w = whole.shape[:2]
        matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), angle, 1)
        cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
        new_w, new_h = math.ceil(w * cosine + h * sine) + 2, math.ceil(w * sine + h * cosine) + 2
        matrix[:, 2] = matrix[:, 2] + ((new_w - w) / 2, (new_h - h) / 2)
        whole = cv2.warpAffine(whole, matrix, (new_w, new_h), flags=cv2.INTER_LINEAR)
    x, y, w, h = mask_box(whole[..., 3] > 0)
    return whole[y:y + h, x:x + w]


def _resized(whole, scale) -> np.ndarray:
    h, w = (max(1, round(side * scale)) for side in whole.shape[:2])
    return cv2.resize(whole, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _scaled(whole, scale, blur) -> Stamp:
    small = _resized(whole, scale)
    rim = math.ceil(3 * blur)
    small = cv2.copyMakeBorder(small, rim, rim, rim, rim, cv2.BORDER_CONSTANT)
    if rim:
        small = cv2.GaussianBlur(small, (2 * rim + 1, 2 * rim + 1), blur)
    return Stamp(small[..., :3], small[..., 3], mask_box(small[..., 3] >= LEAST_ALPHA))


class Scene:
    """A picture with the objects pasted so far. A later object hides earlier ones.

    Args:
        background (np.ndarray): BGR, 0 to 255, float32, has shape (H, W, 3). It is changed.
        overlap (float): Most of an object that later objects may hide, 0 to 1.

    Attributes:
        picture (np.ndarray): With the objects, float32, has shape (H, W, 3).
        whole (list[int]): Pixels of each object, hidden ones too.
        visible (list[int]): Its visible pixels.
    """

    def __init__(self, background: np.ndarray, overlap: float) -> None:
        self.picture = background
        self.whole: List[int] = []
        self.visible: List[int] = []
        self._overlap = overlap
        self._owner = np.full(background.shape[:2], -1)

    def mask(self, number: int) -> np.ndarray:
        """The visible pixels of an object, bool, has shape (H, W)."""
        return self._owner == number

    def paste(self, rng: np.random.Generator, stamp: Stamp) -> bool:
        """Paste an object at a random place where it is in the picture with all of its mask.

        Returns:
            bool: False if no place was found where enough of each earlier object stays visible. Then nothing
            has changed.
        """
        left, top, w, h = stamp.box
        mask = stamp.alpha[top:top + h, left:left + w] >= LEAST_ALPHA
        height, width = self.picture.shape[:2]
        for _ in range(_PLACES):
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            owner = self._owner[y:y + h, x:x + w]
            hidden = np.bincount(owner[mask] + 1, minlength=len(self.whole) + 1)[1:]
            visible = [before - int(now) for before, now in zip(self.visible, hidden)]
            if all(now >= (1 - self._overlap) * whole for now, whole in zip(visible, self.whole)):
                break
        else:
            return False
        self.visible = [*visible, int(mask.sum())]
        self.whole.append(self.visible[-1])
        owner[mask] = len(self.whole) - 1
        self._blend(stamp, x - left, y - top)
        return True

    def _blend(self, stamp, x, y):
        """Draw a stamp with its upper left corner at x, y; faint pixels beyond the picture are cut."""
        height, width = self.picture.shape[:2]
        h, w = stamp.alpha.shape
        inside = np.s_[max(0, -y):min(h, height - y), max(0, -x):min(w, width - x)]
        part = self.picture[max(0, y):y + h, max(0, x):x + w]
        part *= 1 - stamp.alpha[inside][..., None]
        part += stamp.colour[inside]


def paste_objects(rng: np.random.Generator, background: np.ndarray,
                  pick: Callable[[], Tuple[Any, np.ndarray]], look: Look) -> Tuple[Scene, List[Any], int]:
    """Paste a random number of objects.

    Args:
        rng (np.random.Generator): Draws their number, forms and places.
        background (np.ndarray): BGR, 0 to 255, float32, has shape (H, W, 3). It is changed.
        pick (Callable): Gives the next cut-out: anything that names it, and BGR and alpha, uint8, of shape
            (h, w, 4).
        look (Look): The limits.

    Returns:
        tuple: The scene; what names each of its objects; and the number of objects without room.
    """
    scene, drawn = Scene(background, look.overlap), []
    wanted = int(rng.integers(look.objects[0], look.objects[1] + 1))
    for _ in range(wanted):
        for _ in range(_PICKS):
            name, cutout = pick()
            stamp = make_stamp(rng, cutout, look, background.shape[1], background.shape[0])
            if stamp is not None and scene.paste(rng, stamp):
                drawn.append(name)
                break
    return scene, drawn, wanted - len(drawn)
