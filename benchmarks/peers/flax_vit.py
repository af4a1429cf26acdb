"""The plain Vision Transformer as google-research/vision_transformer has it, whose code the ViT-jax2tf recipe clones.

`vit_jax/models_vit.py`, without dropout and hybrids; parameters have the published names. vitport's own reference is
not used: it asks for the length of a batch that is symbolic here.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict


class AddPositionEmbs(nn.Module):
    @nn.compact
    def __call__(self, x):
        shape = (1, x.shape[1], x.shape[2])
        return x + self.param("pos_embedding", nn.initializers.normal(stddev=0.02), shape)


class MlpBlock(nn.Module):
    mlp_dim: int

    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.Dense(self.mlp_dim, name="Dense_0")(x))
        return nn.Dense(x.shape[-1], name="Dense_1")(y)


class Encoder1DBlock(nn.Module):
    mlp_dim: int
    num_heads: int

    @nn.compact
    def __call__(self, inputs):
        x = nn.LayerNorm(name="LayerNorm_0")(inputs)
        x = nn.MultiHeadDotProductAttention(self.num_heads, name="MultiHeadDotProductAttention_1")(x, x)
        x = x + inputs
        y = nn.LayerNorm(name="LayerNorm_2")(x)
        return x + MlpBlock(self.mlp_dim, name="MlpBlock_3")(y)


class Encoder(nn.Module):
    num_layers: int
    mlp_dim: int
    num_heads: int

    @nn.compact
    def __call__(self, x):
        x = AddPositionEmbs(name="posembed_input")(x)
        for layer in range(self.num_layers):
            x = Encoder1DBlock(self.mlp_dim, self.num_heads, name=f"encoderblock_{layer}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class VisionTransformer(nn.Module):
    num_classes: int
    patch: int
    hidden_size: int
    num_layers: int
    mlp_dim: int
    num_heads: int

    @nn.compact
    def __call__(self, inputs):
        sides = (self.patch, self.patch)
        x = nn.Conv(self.hidden_size, sides, strides=sides, padding="VALID", name="embedding")(inputs)
        n, h, w, c = x.shape
        x = jnp.reshape(x, [n, h * w, c])
        cls = self.param("cls", nn.initializers.zeros, (1, 1, c))
        x = jnp.concatenate([jnp.tile(cls, [n, 1, 1]), x], axis=1)
        x = Encoder(self.num_layers, self.mlp_dim, self.num_heads, name="Transformer")(x)
        return nn.Dense(self.num_classes, name="head")(x[:, 0])


def build(architecture: dict) -> VisionTransformer:
    """The model of vitport's architecture."""
    return VisionTransformer(
        num_classes=architecture["num_classes"],
        patch=architecture["patch"],
        hidden_size=architecture["width"],
        num_layers=architecture["depth"],
        mlp_dim=architecture["mlp_width"],
        num_heads=architecture["heads"],
    )


def params(leaves: dict) -> dict:
    """The tree of flat names, as `vit_jax/checkpoint.py` recovers it."""
    return unflatten_dict(leaves, sep="/")
