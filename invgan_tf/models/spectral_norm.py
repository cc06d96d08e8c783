"""Spectral normalisation as Miyato et al. (2018) define it, as a Keras wrapper."""

import keras
from keras import ops


def _normalize(vector):
    return vector / ops.maximum(ops.norm(vector), 1e-12)


@keras.saving.register_keras_serializable("invgan_tf")
class SpectralNormalization(keras.layers.Wrapper):
    """Applies a linear layer with its kernel W divided by its largest singular value.

    `keras.layers.SpectralNormalization` overwrites the trained kernel and lets no gradient through
    sigma. Here, as in the paper of Miyato et al. (Algorithm 1), the trained variable W stays as the
    optimiser left it, every call uses W / sigma(W), and sigma = v W u with u and v held constant, so
    that the gradient of sigma flows to W. A convolution and a dense layer are linear in W, hence
    dividing their output by sigma is dividing W by sigma.

    The singular vector u moves in calls with `training=True` alone: the discriminator's own step
    passes it, the step of the generator or inverter that looks through the discriminator does not.

    Args:
        layer: a `Dense` or `Conv2D` built with `use_bias=False` and no activation; the bias, which
            must not be divided, belongs to the wrapper.

    Raises:
        ValueError: if `layer` has a bias or an activation of its own.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs):
        if layer.use_bias or layer.activation is not keras.activations.linear:
            raise ValueError(
                f"SpectralNormalization got {layer.name!r} with a bias or an activation; build it "
                "with use_bias=False and activation=None (the wrapper adds the bias)."
            )
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        units = self.layer.kernel.shape[-1]
        self.u = self.add_weight(
            name="u",
            shape=(units,),
            initializer=keras.initializers.RandomNormal(0.0, 1.0),
            trainable=False,
            dtype="float32",
            aggregation="only_first_replica",
        )
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")

    def singular_value(self):
        """Returns (sigma, u) after one power iteration from the stored u; both are scalars/vectors in float32."""
        kernel = ops.cast(ops.convert_to_tensor(self.layer.kernel.value), "float32")
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))
        fixed = ops.stop_gradient(matrix)
        v = _normalize(ops.matmul(fixed, self.u))
        u = _normalize(ops.matmul(v, fixed))
        v, u = ops.stop_gradient(v), ops.stop_gradient(u)
        return ops.sum(ops.matmul(v, matrix) * u), u

    def call(self, inputs, training=False):
        sigma, u = self.singular_value()
        if training:
            self.u.assign(u)
        outputs = self.layer(inputs)
        return outputs / ops.cast(sigma, outputs.dtype) + ops.cast(self.bias, outputs.dtype)
