"""The pre-activation residual network that classifies CIFAR-10 (Zagoruyko and Komodakis, 2016), wide or small."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from invgan_tf.models.dcgan import BATCH_NORM

_SLOPE = 0.1
_STEM = 16


@keras.saving.register_keras_serializable("invgan_tf")
class ImageStandardization(layers.Layer):
    """Brings each image to mean 0 and standard deviation 1, whatever range it came in.

    The deviation is at least that of a single pixel out of the ordinary, so that a flat image stays finite.
    """

    def call(self, images):
        images = ops.cast(images, "float32")
        pixels = images.shape[1] * images.shape[2] * images.shape[3]
        centred = images - ops.mean(images, axis=(1, 2, 3), keepdims=True)
        variance = ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True)
        # The root of the greater, not the greater of the roots: a root has no gradient at 0.
        return ops.cast(centred / ops.sqrt(ops.maximum(variance, 1.0 / pixels)), self.compute_dtype)


def build_features(
    image_shape: tuple[int, int, int], widths: Sequence[int], units: int, dtype: str = "float32"
) -> keras.Model:
    """Builds Phi: images `[n, h, w, c]` to pooled features `[n, widths[-1]]`.

    Args:
        image_shape: height, width and channels of the images.
        widths: channels of each stage; every stage but the first halves height and width.
        units: residual units a stage.
        dtype: Keras dtype policy of the layers.
    """

    def conv(x, filters, stride, name):
        fan_out = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        return layers.Conv2D(
            filters, 3, stride, "same", use_bias=False, kernel_initializer=fan_out, dtype=dtype, name=name
        )(x)

    def activated(x, name):
        x = layers.BatchNormalization(**BATCH_NORM, dtype=dtype, name=f"{name}_bn")(x)
        return layers.LeakyReLU(_SLOPE, dtype=dtype, name=f"{name}_lrelu")(x)

    images = keras.Input(image_shape, name="images")
    x = conv(ImageStandardization(dtype=dtype, name="standardize")(images), _STEM, 1, "stem")
    for stage, filters in enumerate(widths, start=1):
        for unit in range(1, units + 1):
            name, stride = f"stage{stage}_unit{unit}", 2 if unit == 1 and stage > 1 else 1
            skip = x
            if stride > 1:
                skip = layers.AveragePooling2D(stride, dtype=dtype, name=f"{name}_pool")(skip)
            if missing := filters - skip.shape[-1]:
                skip = ops.pad(skip, [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])
            x = conv(activated(x, f"{name}_first"), filters, stride, f"{name}_conv1")
            x = conv(activated(x, f"{name}_second"), filters, 1, f"{name}_conv2")
            x = layers.Add(dtype=dtype, name=f"{name}_add")([x, skip])
    x = activated(x, "last")
    features = layers.GlobalAveragePooling2D(dtype="float32", name="pooled")(x)
    return keras.Model(images, features, name="features")
