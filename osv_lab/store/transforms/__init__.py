"""Preprocessing and augmentation for dataset versions, with the names and parameters that Roboflow's users know.

Preprocessing is for every image: ``auto-orient``, ``resize`` (``width``, ``height``, ``format``), ``grayscale``,
``contrast`` (``type``), ``static-crop`` (``x_min`` ...), ``tile`` (``rows``, ``columns``), ``filter-null`` (``percent``
of the images that must have a label), ``remap`` (``{"old": "new"}``, ``""`` to drop). Augmentation is for copies of
training images: ``flip``, ``ninety``, ``crop``, ``rotate``, ``shear``, ``hue``, ``saturation``, ``brightness``,
``exposure``, ``blur``, ``noise``, ``cutout``, ``mosaic``, ``rgrayscale``, and inside boxes alone ``bbflip``,
``bbninety``, ``bbcrop``, ``bbrotate``, ``bbshear``, ``bbbrightness``, ``bbexposure``, ``bbblur``, ``bbnoise``.
:data:`KINDS` has their parameters and ranges.

Pixels are OpenCV's work. Labels are this package's: of the libraries that know labels, Albumentations' permissive line
is no longer kept and its successor is AGPL, imgaug has ended, and torchvision's transforms would bring torch into the
store and know neither polygons nor attributes. Under one affine map per step the geometry of all of them is short.
"""

from __future__ import annotations

from osv_lab.store.transforms.catalogue import KINDS, Steps, parse_steps
from osv_lab.store.transforms.preview import Preview, preview

__all__ = ["KINDS", "Preview", "Steps", "parse_steps", "preview"]
