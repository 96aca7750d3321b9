"""A trained network as a function from image to label map, for evaluation and segmentation alike."""

import numpy as np

from ccnet.models.ccnet import SMALLEST
from ccnet.ops.normalise import normalise
from ccnet.runtime import jt


class Predictor:
    """`predictor(image)`: an image `(H, W, 3)` uint8 RGB of any size -> train ids `(H, W)` uint8."""

    def __init__(self, model):
        self.model = model
        model.eval()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        margin = [(0, max(0, SMALLEST - side)) for side in (height, width)]
        padded = np.pad(image, (*margin, (0, 0)), mode="edge")
        with jt.no_grad():
            logits = self.model(normalise(jt.array(padded[None])))
            classes = logits.argmax(dim=1)[0].uint8().numpy()
        return classes[0, :height, :width]
