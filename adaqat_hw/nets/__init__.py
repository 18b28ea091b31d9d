"""Registry of ordinary float networks; ``quant`` turns them into quantized ones."""

from adaqat_hw.nets import cnv, demo_cnn, mlp, resnet20  # noqa: F401  (they register themselves)
from adaqat_hw.nets._registry import NetworkInfo, Options, build, info, names, register

__all__ = ["NetworkInfo", "Options", "build", "info", "names", "register"]
