"""Registry of ordinary float networks; ``quant`` turns them into quantized ones."""

from adaqat_hw.nets import (  # noqa: F401  (they register themselves)
    cnv,
    demo_cnn,
    mlp,
    mobilenet_v1,
    mobilenet_v2,
    resnet18,
    resnet20,
    speech_cnn,
    text_encoder,
    vit,
)
from adaqat_hw.nets._registry import NetworkInfo, Options, build, info, names, register

__all__ = ["NetworkInfo", "Options", "build", "info", "names", "register"]
